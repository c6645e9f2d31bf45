#include "policy/state.h"

#include <bit>
#include <cmath>

#include "runtime/hash.h"

namespace splitee::policy {
namespace {

using runtime::Code;
using runtime::Result;
using runtime::Status;

constexpr std::string_view kMagic{"SPLITEE\0", 8};
constexpr std::uint64_t kVersion = 2;
constexpr std::size_t kChecksumBytes = 8;

void append(std::string& out, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) {
    out.push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * i))));
  }
}

void append(std::string& out, double value) {
  append(out, std::bit_cast<std::uint64_t>(value), 8);
}

std::uint64_t read(std::string_view in, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    value |= std::uint64_t{static_cast<unsigned char>(in[i])} << (8 * i);
  }
  return value;
}

std::uint64_t hash_of(std::string_view bytes) {
  return runtime::content_hash(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

// The header cut into its named parts, so that a refusal can say which one differs.
struct HeaderPart {
  std::string_view what;
  std::string bytes;
};

std::vector<HeaderPart> header_parts(std::string_view name, const PolicyOptions& options) {
  std::vector<HeaderPart> parts;
  const auto add = [&parts](std::string_view what) -> std::string& {
    return parts.emplace_back(HeaderPart{what, {}}).bytes;
  };
  std::string& algorithm = add("policy");
  append(algorithm, name.size(), 4);
  algorithm += name;
  std::string& arms = add("arms");
  append(arms, options.arms(), 4);
  for (const std::size_t layer : options.layer_of) append(arms, layer, 8);
  std::string& exit_alphas = add("alpha per exit");
  append(exit_alphas, options.exit_alphas.size(), 4);
  for (const double alpha : options.exit_alphas) append(exit_alphas, alpha);
  append(add("alpha"), options.alpha);
  append(add("exploration"), options.exploration);
  append(add("entropy threshold"), options.entropy_threshold.value_or(-1.0));
  append(add("discount"), options.discount);
  append(add("change threshold"), options.change_threshold);
  append(add("mu"), options.costs.mu);
  append(add("lambda1"), options.costs.lambda1);
  append(add("lambda2"), options.costs.lambda2);
  append(add("offload cost"), options.costs.offload);
  append(add("fixed arm"), options.fixed_arm, 8);
  append(add("patience"), options.patience, 8);
  append(add("window"), options.window, 8);
  return parts;
}

}  // namespace

void StateArchive::exchange(std::uint64_t& value, std::size_t bytes) {
  if (!reading()) return append(output_, value, bytes);
  if (failed_ || input_.size() - position_ < bytes) {
    failed_ = true;
    return;
  }
  value = read(input_.substr(position_), bytes);
  position_ += bytes;
}

void StateArchive::number(double& value) {
  auto bits = std::bit_cast<std::uint64_t>(value);
  exchange(bits, 8);
  const auto read_value = std::bit_cast<double>(bits);
  failed_ = failed_ || (reading() && !std::isfinite(read_value));
  if (!failed_) value = read_value;
}

void StateArchive::non_negative(double& value) {
  double candidate = value;
  number(candidate);
  failed_ = failed_ || (reading() && std::signbit(candidate));
  if (!failed_) value = candidate;
}

void StateArchive::number(std::span<double> values) {
  for (double& value : values) number(value);
}

void StateArchive::non_negative(std::span<double> values) {
  for (double& value : values) non_negative(value);
}

void StateArchive::index(std::size_t& value, std::size_t bound) {
  std::uint64_t candidate = value;
  word(candidate);
  failed_ = failed_ || (reading() && candidate >= bound);
  if (!failed_) value = static_cast<std::size_t>(candidate);
}

void StateArchive::rng(Rng& rng) {
  std::uint64_t state = rng.state();
  word(state);
  if (!failed_) rng.set_state(state);
}

std::string state_header(std::string_view name, const PolicyOptions& options) {
  std::string header(kMagic);
  append(header, kVersion, 4);
  for (const HeaderPart& part : header_parts(name, options)) header += part.bytes;
  return header;
}

std::string seal_state(std::string header, std::string_view body) {
  header += body;
  append(header, hash_of(header), kChecksumBytes);
  return header;
}

Result<std::string_view> open_state(std::string_view bytes, std::string_view name,
                                    const PolicyOptions& options) {
  const auto refuse = [](Code code, const std::string& why) {
    return Status(code, "policy state: " + why);
  };
  if (!bytes.starts_with(kMagic)) return refuse(Code::kCorrupt, "not a policy state");
  if (bytes.size() < kMagic.size() + 4 + kChecksumBytes) return refuse(Code::kCorrupt, "cut short");
  const std::string_view content = bytes.substr(0, bytes.size() - kChecksumBytes);
  const std::uint64_t version = read(bytes.substr(kMagic.size()), 4);
  if (version != kVersion) {
    return refuse(Code::kUnsupported, "version " + std::to_string(version) +
                                          ", this program reads version " +
                                          std::to_string(kVersion));
  }
  if (read(bytes.substr(content.size()), kChecksumBytes) != hash_of(content)) {
    return refuse(Code::kCorrupt, "checksum does not match: the bytes are damaged");
  }
  std::string_view rest = content.substr(kMagic.size() + 4);
  for (const HeaderPart& part : header_parts(name, options)) {
    if (!rest.starts_with(part.bytes)) {
      return refuse(Code::kUnsupported,
                    "learned with another " + std::string(part.what) + " than this run's");
    }
    rest.remove_prefix(part.bytes.size());
  }
  return rest;
}

}  // namespace splitee::policy
