// BERT's tokenizer: basic tokenizer (clean, lower-case, strip accents, split punctuation and CJK)
// and greedy longest-match WordPiece, as bert-base-uncased does it (Devlin et al. 2019).
// Thread rule: immutable; encode() may be called from many threads at once.
//
// Equal, token for token, to the published tokenization.py under Python, with these choices where
// the implementations in use differ:
// - lower-casing is Python's str.lower(), before accents go: a final capital sigma becomes U+03C2,
//   U+0130 becomes "i"; then canonical decomposition in canonical order, without category Mn;
// - characters of category Cc, Cf, Co, Cs are dropped; unassigned ones stay part of their word;
// - a word of more than 100 characters, counted after decomposition, is [UNK];
// - the special tokens have no spelling in a text: "[SEP]" is punctuation, "sep", punctuation, so
//   that no user can inject them;
// - a second text that is empty still has its [SEP].
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/status.h"
#include "runtime/token_trie.h"

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
  // [UNK], [CLS] and [SEP]; refused: empty tokens, duplicates, invalid UTF-8, 2^31 tokens or more.
  static Result<Tokenizer> create(std::vector<std::string> vocab, TokenizerOptions options = {});

  // Cuts to max_tokens (>= 3): a single text keeps its first tokens; of a pair the longer one is
  // cut first, the second where both are equally long. Invalid UTF-8 becomes U+FFFD and is dropped
  // as BERT's cleaning does; never fails. Linear in the texts' length, and stops reading a text
  // once max_tokens are certain. `text2` is null for single texts.
  Encoding encode(std::string_view text, const std::string_view* text2,
                  std::size_t max_tokens) const;

  const std::vector<std::string>& vocab() const { return vocab_; }

 private:
  Tokenizer() = default;

  // Tokens of a text, without special ones: all, or at least `limit`.
  std::vector<std::int32_t> tokenize(std::string_view text, std::size_t limit) const;

  std::vector<std::string> vocab_;
  TokenTrie words_;   // tokens that start a word
  TokenTrie pieces_;  // tokens that continue one, without their "##"
  TokenizerOptions options_;
  std::int32_t unknown_ = 0, cls_ = 0, sep_ = 0;
};

}  // namespace splitee::runtime
