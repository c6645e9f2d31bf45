#include "runtime/loader/loader.h"

#include <new>
#include <string_view>

#include "base/heap.h"
#include "runtime/file/model_bytes.h"
#include "runtime/file/model_keys.h"
#ifdef SPLITEE_NETWORK_TEXT
#include "runtime/bert/model.h"
#endif
#ifdef SPLITEE_NETWORK_NUMBERS
#include "runtime/numbers/numbers_network.h"
#endif
#ifdef SPLITEE_NETWORK_IMAGES
#include "runtime/conv/conv_network.h"
#endif

namespace splitee::runtime {
namespace {

struct Architecture {
  std::string_view name;
  Result<std::shared_ptr<const Network>> (*load)(ModelFile file, const kernels::Kernels& kernels,
                                                 const ModelOptions& options);
};

// The one list of networks: a new one is a row here and its folder in meson.build.
constexpr Architecture kArchitectures[] = {
#ifdef SPLITEE_NETWORK_TEXT
    {"bert", load_bert},
#endif
#ifdef SPLITEE_NETWORK_NUMBERS
    {"splitee-numbers", load_numbers},
#endif
#ifdef SPLITEE_NETWORK_IMAGES
    {"splitee-conv", load_conv},
#endif
};

Result<std::shared_ptr<const Network>> load(ModelBytes bytes, const kernels::Kernels& kernels,
                                            const ModelOptions& options) {
  const std::string path = bytes.name();
  try {
    Result<ModelFile> file = read_model_file(std::move(bytes));
    if (!file.ok()) return file.status();
    const Result<std::string_view> name = file->gguf.get_string(kKeyArchitecture);
    if (!name.ok()) return name.status();
    std::string known;
    for (const Architecture& architecture : kArchitectures) {
      if (architecture.name == *name) {
        auto network = architecture.load(std::move(*file), kernels, options);
        trim_heap();  // of what was needed while loading
        return network;
      }
      known += (known.empty() ? "" : ", ") + std::string(architecture.name);
    }
    return file->gguf.error(Code::kUnsupported,
                            "key " + std::string(kKeyArchitecture) +
                                " names a network that is not known here; known: " + known);
  } catch (const std::bad_alloc&) {
    return Status(Code::kIo, path + ": not enough memory to load it");
  }
}

}  // namespace

Result<std::shared_ptr<const Network>> open_network(const std::string& path,
                                                    const kernels::Kernels& kernels,
                                                    const ModelOptions& options) {
  Result<ModelBytes> bytes = ModelBytes::open(path);
  if (!bytes.ok()) return bytes.status();
  return load(std::move(*bytes), kernels, options);
}

Result<std::shared_ptr<const Network>> network_from_bytes(const std::string& path,
                                                          std::span<const std::byte> bytes,
                                                          const kernels::Kernels& kernels,
                                                          const ModelOptions& options) {
  ModelOptions all = options;
  all.preload = kAllLayers;
  auto network = load(ModelBytes::from_memory(path, bytes), kernels, all);
  if (!network.ok()) return network;
  if (Status status = (*network)->load_all(); !status.ok()) return status;
  return network;
}

}  // namespace splitee::runtime
