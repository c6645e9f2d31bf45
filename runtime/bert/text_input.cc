#include "runtime/bert/text_input.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string_view>

#include "runtime/bert/model_format.h"

namespace splitee::runtime {

Result<Prepared> prepare_text(const BertNetwork& model, const Input& input) {
  if (input.kind != InputKind::kText) {
    return Status(Code::kInvalidArgument,
                  "the model takes text, not " + std::string(to_string(input.kind)));
  }
  std::string_view second;
  if (input.second) second = *input.second;
  if (input.second && !model.info().pairs) {
    return Status(Code::kInvalidArgument, "the model has one token type and takes no pairs");
  }
  std::size_t most = model.config().max_tokens;
  if (input.max_length > 0) most = std::min(most, std::max(input.max_length, kMinContext));
  const Encoding encoding =
      model.tokenizer().encode(input.bytes, input.second ? &second : nullptr, most);
  Prepared prepared = pack(encoding.ids, encoding.types);
  prepared.full = encoding.ids.size() == most;
  return prepared;
}

Prepared random_text(const ModelConfig& config, std::size_t tokens, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::int32_t> ids(tokens), types(tokens, 0);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % config.vocab);
  return pack(ids, types);
}

Prepared pack(std::span<const std::int32_t> ids, std::span<const std::int32_t> types) {
  SPLITEE_CHECK(ids.size() == types.size());
  Prepared prepared;
  prepared.length = ids.size();
  prepared.bytes.resize(ids.size() * kBytesPerToken);
  if (ids.empty()) return prepared;
  std::memcpy(prepared.bytes.data(), ids.data(), ids.size_bytes());
  std::byte* to = prepared.bytes.data() + ids.size_bytes();
  for (const std::int32_t type : types) *to++ = static_cast<std::byte>(type);
  return prepared;
}

Status unpack(PreparedView input, Encoding& encoding) {
  if (input.bytes.size() / kBytesPerToken != input.length ||
      input.bytes.size() % kBytesPerToken != 0) {
    return {Code::kInvalidArgument, std::to_string(input.bytes.size()) + " bytes for " +
                                        std::to_string(input.length) + " tokens"};
  }
  encoding.ids.resize(input.length);
  encoding.types.resize(input.length);
  if (input.length == 0) return {};
  std::memcpy(encoding.ids.data(), input.bytes.data(), input.length * sizeof(std::int32_t));
  const std::byte* types = input.bytes.data() + input.length * sizeof(std::int32_t);
  for (std::int32_t& type : encoding.types) type = std::to_integer<std::int32_t>(*types++);
  return {};
}

}  // namespace splitee::runtime
