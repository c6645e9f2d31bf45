// Opens a model file as the network that its key general.architecture names.
// Thread rule: pure functions. Errors: as the network's own loader; an architecture that is not
// known, or not built in (meson option `networks`), is kUnsupported and named.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "runtime/network.h"

namespace splitee::runtime {

// Opens and checks the GGUF file at `path`, for `kernels`, which must outlive the Network. The
// message names the path and the key, tensor or byte that is wrong. Lack of memory is kIo.
Result<std::shared_ptr<const Network>> open_network(const std::string& path,
                                                    const kernels::Kernels& kernels,
                                                    const ModelOptions& options = {});
// The same from bytes in memory, which are not needed any more afterwards. `path` is for messages.
Result<std::shared_ptr<const Network>> network_from_bytes(const std::string& path,
                                                          std::span<const std::byte> bytes,
                                                          const kernels::Kernels& kernels,
                                                          const ModelOptions& options = {});

}  // namespace splitee::runtime
