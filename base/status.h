// Errors of the outside world (files, bytes from a socket, flags), and the always-on check for
// our own bugs. A Status or Result is never dropped silently (nodiscard). Messages name the path,
// the field, the offset or the peer, so that a tool can print them as they are.
// Thread rule: plain values.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

namespace splitee {

enum class Code {
  kOk,
  kInvalidArgument,  // a flag or a call's argument is wrong
  kNotFound,         // a file, a column, a name is not there
  kCorrupt,          // bytes that break their format
  kUnsupported,      // well formed, but not for this program
  kIo,               // the operating system said no
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// Either a T or a Status that is not ok.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() { return *value_; }
  const T& value() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

[[noreturn]] inline void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace splitee

// For our own bugs only: never reachable from input.
#define SPLITEE_CHECK(condition) \
  ((condition) ? void(0) : ::splitee::check_failed(#condition, __FILE__, __LINE__))
