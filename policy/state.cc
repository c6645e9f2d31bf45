#include "policy/state.h"

#include <bit>
#include <cmath>

#include "base/hash.h"

namespace splitee::policy {
namespace {

constexpr std::string_view kMagic{"SPLITEE\0", 8};
constexpr std::uint64_t kVersion = 6;
constexpr std::size_t kChecksumBytes = 8;
constexpr std::string_view kModel = "model";

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
  return content_hash(std::as_bytes(std::span(bytes.data(), bytes.size())));
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
  append(add(kModel), options.model_hash, 8);
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

void StateArchive::number(double& value, double most) {
  auto bits = std::bit_cast<std::uint64_t>(value);
  exchange(bits, 8);
  const auto read_value = std::bit_cast<double>(bits);
  require(std::abs(read_value) <= most);  // false for NaN
  if (!failed_) value = read_value;
}

void StateArchive::non_negative(double& value, double most) {
  double candidate = value;
  number(candidate, most);
  require(!std::signbit(candidate));
  if (!failed_) value = candidate;
}

void StateArchive::count(double& value) {
  double candidate = value;
  non_negative(candidate, kMostCount);
  require(candidate == std::floor(candidate));
  if (!failed_) value = candidate;
}

void StateArchive::number(std::span<double> values, double most) {
  for (double& value : values) number(value, most);
}

void StateArchive::non_negative(std::span<double> values, double most) {
  for (double& value : values) non_negative(value, most);
}

void StateArchive::count(std::span<double> values) {
  for (double& value : values) count(value);
}

void StateArchive::counter(std::uint64_t& value) {
  constexpr auto kMost = static_cast<std::uint64_t>(kMostCount);
  // What has come to the bound is saved as the bound, so that it is taken again.
  if (!reading()) value = std::min(value, kMost);
  std::uint64_t candidate = value;
  word(candidate);
  require(candidate <= kMost);
  if (!failed_) value = candidate;
}

void StateArchive::index(std::size_t& value, std::uint64_t bound) {
  std::uint64_t candidate = value;
  word(candidate);
  require(candidate < bound);
  if (!failed_) value = static_cast<std::size_t>(candidate);
}

void StateArchive::packed(std::span<float> values, float bound) {
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const bool two = i + 1 < values.size();
    std::uint64_t bits = std::bit_cast<std::uint32_t>(values[i]);
    if (two) bits |= std::uint64_t{std::bit_cast<std::uint32_t>(values[i + 1])} << 32;
    word(bits);
    if (!reading() || failed_) continue;
    const auto low = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    const auto high = std::bit_cast<float>(static_cast<std::uint32_t>(bits >> 32));
    const auto fits = [bound](float value) { return value >= -1.0f && value <= bound; };
    failed_ = !fits(low) || (two ? !fits(high) : bits >> 32 != 0);
    if (failed_) continue;
    values[i] = low;
    if (two) values[i + 1] = high;
  }
}

void StateArchive::flag(bool& value) {
  std::size_t number = value ? 1 : 0;
  index(number, 2);
  if (!failed_) value = number == 1;
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
    return refuse(Code::kUnsupported,
                  "version " + std::to_string(version) + ", this program reads version " +
                      std::to_string(kVersion) + ": move it away to begin anew");
  }
  if (read(bytes.substr(content.size()), kChecksumBytes) != hash_of(content)) {
    return refuse(Code::kCorrupt, "checksum does not match: the bytes are damaged");
  }
  std::string_view rest = content.substr(kMagic.size() + 4);
  for (const HeaderPart& part : header_parts(name, options)) {
    if (!rest.starts_with(part.bytes)) {
      const bool cut = rest.size() < part.bytes.size();
      if (cut && (part.what == kModel || std::string_view(part.bytes).starts_with(rest))) {
        return refuse(Code::kCorrupt, "cut short");
      }
      if (part.what == kModel) {
        return refuse(Code::kUnsupported,
                      "learned with another model (hash " +
                          hash_to_string(read(rest.substr(0, 8), 8)) + ") than this run's (" +
                          hash_to_string(options.model_hash) + "): move it away to begin anew");
      }
      return refuse(Code::kUnsupported,
                    "learned with another " + std::string(part.what) + " than this run's");
    }
    rest.remove_prefix(part.bytes.size());
  }
  return rest;
}

}  // namespace splitee::policy
