#include "capi/handles.h"

#include <exception>
#include <new>

namespace splitee::capi {
namespace {

// A fixed buffer as well: a message must come through where memory is gone.
thread_local std::string last_error;
thread_local const char* last_text = "";

int result_of(Code code) {
  switch (code) {
    case Code::kOk:
      return SPLITEE_OK;
    case Code::kInvalidArgument:
      return SPLITEE_INVALID;
    case Code::kNotFound:
      return SPLITEE_NOT_FOUND;
    case Code::kCorrupt:
      return SPLITEE_CORRUPT;
    case Code::kUnsupported:
      return SPLITEE_UNSUPPORTED;
    case Code::kIo:
      return SPLITEE_IO;
  }
  return SPLITEE_INTERNAL;
}

}  // namespace

int fail(int result, std::string message) noexcept {
  last_error = std::move(message);
  last_text = last_error.c_str();
  return result;
}

int fail(const Status& status) noexcept {
  if (status.ok()) return SPLITEE_OK;
  try {
    return fail(result_of(status.code()), status.message());
  } catch (const std::exception&) {
    last_text = "out of memory";
    return SPLITEE_MEMORY;
  }
}

int run_body(int (*body)(void*), void* context) noexcept {
  try {
    return body(context);
  } catch (const std::bad_alloc&) {
    last_text = "out of memory";
    return SPLITEE_MEMORY;
  } catch (const std::exception& problem) {
    try {
      return fail(SPLITEE_INTERNAL, problem.what());
    } catch (const std::exception&) {
      last_text = "out of memory";
      return SPLITEE_MEMORY;
    }
  }
}

Status invalid(std::string why) {
  return Status(Code::kInvalidArgument, std::move(why));
}

std::vector<std::string> words_of(const char* const* options) {
  std::vector<std::string> words;
  for (; options != nullptr && *options != nullptr; ++options) words.emplace_back(*options);
  return words;
}

int copy_out(const void* from, std::size_t size, void* to, std::size_t capacity,
             std::size_t* bytes) {
  if (bytes == nullptr) return fail(invalid("bytes is NULL"));
  *bytes = size;
  if (size > capacity || to == nullptr) {
    return fail(SPLITEE_TOO_SMALL, "a buffer of " + std::to_string(size) + " bytes is wanted");
  }
  std::memcpy(to, from, size);
  return SPLITEE_OK;
}

Status copy_probabilities(std::span<const float> from, float* to, std::size_t count) {
  if (to == nullptr || count < from.size()) {
    return invalid("room for " + std::to_string(from.size()) + " numbers is wanted");
  }
  std::ranges::copy(from, to);
  return {};
}

Result<runtime::Input> input_of(const runtime::NetworkInfo& info, const splitee_input& given) {
  if (given.data == nullptr && given.bytes > 0) return invalid("data is NULL");
  runtime::Input input;
  input.kind = info.input;
  input.bytes.assign(static_cast<const char*>(given.data), given.bytes);
  if (given.second != nullptr) input.second.emplace(given.second, given.second_bytes);
  return input;
}

}  // namespace splitee::capi

using namespace splitee::capi;

const char* splitee_last_error(void) {
  return last_text;
}

void splitee_free(void* handle) {
  (void)guarded([&] {
    delete static_cast<Handle*>(handle);
    return int{SPLITEE_OK};
  });
}
