// BERT's tokenizer: basic tokenizer (clean, lower-case, strip accents, split punctuation and CJK)
// and greedy longest-match WordPiece, as bert-base-uncased does it (Devlin et al. 2019).
// Thread rule: immutable; encode() may be called from many threads at once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/status.h"

namespace splitee::runtime {

// One sample: ids and token types of equal length; [CLS] a [SEP] (b [SEP]).
struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> types;
};

struct TokenizerOptions {
  bool lower_case = true;  // also strips accents, as BERT ties the two
};

class Tokenizer {
 public:
  // `vocab` in id order with BERT's spelling ("##ing" continues a word). It must hold [PAD],
  // [UNK], [CLS] and [SEP]; duplicates are refused.
  static Result<Tokenizer> create(std::vector<std::string> vocab, TokenizerOptions options = {});

  // Cuts to max_tokens (>= 3): a single text keeps its first tokens; of a pair the longer one is
  // cut first. Invalid UTF-8 becomes U+FFFD and is dropped as BERT's cleaning does; never fails.
  // `text2` is null for single texts.
  Encoding encode(std::string_view text, const std::string_view* text2,
                  std::size_t max_tokens) const;

  const std::vector<std::string>& vocab() const { return vocab_; }

 private:
  std::vector<std::string> vocab_;
  std::unordered_map<std::string, std::int32_t> ids_;
  TokenizerOptions options_;
  std::int32_t unknown_ = 0, cls_ = 0, sep_ = 0;
};

}  // namespace splitee::runtime
