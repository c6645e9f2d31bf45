// Texts as a BertNetwork takes them: Prepared bytes are u32 ids, [CLS] and [SEP] included, then as
// many u8 token types, little-endian; the length is their number, in tokens. Thread rule: pure
// functions. Errors: kInvalidArgument.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "runtime/bert/model.h"
#include "runtime/network.h"
#include "runtime/text/tokenizer.h"

namespace splitee::runtime {

inline constexpr std::size_t kBytesPerToken = 5;

// One text, or a pair; cut to what the model takes.
Result<Prepared> prepare_text(const BertNetwork& model, const Input& input);
// Any tokens, of type 0.
Prepared random_text(const ModelConfig& config, std::size_t tokens, std::uint64_t seed);

// As many types as ids (our bug otherwise), each 0 .. 255.
Prepared pack(std::span<const std::int32_t> ids, std::span<const std::int32_t> types);
// Fails where length and bytes do not fit each other; ids beyond 2^31 become negative. What the
// model knows of them is not looked at.
Status unpack(PreparedView input, Encoding& encoding);

}  // namespace splitee::runtime
