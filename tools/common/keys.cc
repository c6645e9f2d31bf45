#include "tools/common/keys.h"

#include <optional>
#include <span>
#include <string_view>

#include <unistd.h>

#include "base/file.h"
#include "tools/common/console.h"
#include "transport/zmq/curve.h"

namespace splitee::tools {

namespace {

constexpr std::size_t kMaxFileBytes = 1 << 20;

// Calls take(line number, line) for each line that is neither empty nor a comment, until one fails.
template <class Take>
Status for_each_line(const std::string& text, Take take) {
  std::string_view rest = text;
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line == "#" || line.starts_with("# ")) continue;
    const Status status = take(number, line);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace

Result<KeyPair> generate_key_pair() {
  // A key that begins with a dash would read as a flag on a command line.
  for (;;) {
    std::optional<KeyPair> keys = transport::make_curve_keys();
    if (!keys) return Status(Code::kUnsupported, "this ZeroMQ library was built without CURVE");
    if (keys->public_key.front() != '-') return std::move(*keys);
  }
}

Status write_key_pair(const std::string& prefix, const KeyPair& keys) {
  const std::string secret_path = prefix + ".secret", public_path = prefix + ".public";
  for (const std::string& path : {secret_path, public_path}) {
    if (::access(path.c_str(), F_OK) == 0) {
      return Status(Code::kIo, path + ": exists; keys are not replaced");
    }
  }
  const std::string secret =
      fmt::format("public-key {}\nsecret-key {}\n", keys.public_key, keys.secret_key);
  const Status status = write_file_atomically(secret_path, std::as_bytes(std::span(secret)), 0600);
  if (!status.ok()) return not_usage(status);
  const std::string line = keys.public_key + "\n";
  return not_usage(write_file_atomically(public_path, std::as_bytes(std::span(line))));
}

Result<KeyPair> read_secret_key(const std::string& path) {
  Result<std::string> text = read_file(path, kMaxFileBytes);
  if (!text.ok()) return not_usage(text.status());
  KeyPair keys;
  const Status status = for_each_line(*text, [&](std::size_t number, std::string_view line) {
    const std::size_t space = line.find(' ');
    const std::string_view name = line.substr(0, space);
    std::string* key = name == "public-key"   ? &keys.public_key
                       : name == "secret-key" ? &keys.secret_key
                                              : nullptr;
    if (key != nullptr && space != std::string_view::npos) *key = line.substr(space + 1);
    if (key == nullptr || !transport::is_curve_key(*key)) {
      return Status(Code::kCorrupt,
                    fmt::format("{}: line {}: not a 'public-key KEY' or 'secret-key KEY' line with "
                                "a key of 40 Z85 characters",
                                path, number));
    }
    return Status();
  });
  if (!status.ok()) return status;
  if (keys.secret_key.empty()) return Status(Code::kCorrupt, path + ": no secret-key line");
  const std::optional<std::string> derived = transport::curve_public_key(keys.secret_key);
  if (!derived) return Status(Code::kUnsupported, "this ZeroMQ library was built without CURVE");
  if (keys.public_key.empty()) keys.public_key = *derived;
  if (keys.public_key != *derived) {
    return Status(Code::kCorrupt, path + ": the public key does not belong to the secret key");
  }
  return keys;
}

Result<std::vector<std::string>> read_public_keys(const std::string& path) {
  Result<std::string> text = read_file(path, kMaxFileBytes);
  if (!text.ok()) return not_usage(text.status());
  std::vector<std::string> keys;
  const Status status = for_each_line(*text, [&](std::size_t number, std::string_view line) {
    keys.emplace_back(line.substr(0, line.find(' ')));
    if (transport::is_curve_key(keys.back())) return Status();
    return Status(Code::kCorrupt,
                  fmt::format("{}: line {}: not a public key of 40 Z85 characters", path, number));
  });
  if (!status.ok()) return status;
  if (keys.empty()) return Status(Code::kCorrupt, path + ": holds no key");
  return keys;
}

Result<std::string> read_public_key(const std::string& text) {
  if (transport::is_curve_key(text)) return text;
  Result<std::vector<std::string>> keys = read_public_keys(text);
  if (!keys.ok()) {
    return Status(keys.status().code(), "neither a key of 40 Z85 characters nor a file with one: " +
                                            keys.status().message());
  }
  if (keys->size() != 1) return Status(Code::kCorrupt, text + ": holds more than one key");
  return keys->front();
}

}  // namespace splitee::tools
