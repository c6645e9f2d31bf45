// Tokens that are looked for in the text itself, before or after normalization, and never taken
// apart: what Hugging Face calls added tokens.
// Thread rule: immutable after construction.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/text/token_trie.h"

namespace splitee::runtime {

struct AddedToken {
  std::int32_t id = 0;
  bool single_word = false;  // only where no letter, digit or underscore stands beside it
  bool normalized = false;   // looked for in the normalized text, else in the text as it is
  bool word = false;         // of the vocabulary as well, found where it is a word
};

// A stretch of a text: a token, or what lies between tokens.
struct TextPart {
  std::string_view text;
  std::int32_t id = -1;  // -1: text
};

class AddedTokens {
 public:
  struct Entry {
    AddedToken token;
    std::string text;  // as it is looked for
  };

  AddedTokens() = default;
  // Refuses empty and equal texts.
  static Result<AddedTokens> create(std::vector<Entry> entries);

  bool empty() const { return single_word_.empty(); }

  // Left to right, the longest where several start. A token that is no single word where it has to
  // be is text.
  std::vector<TextPart> split(std::string_view text) const;

 private:
  std::vector<std::int32_t> ids_;
  std::vector<bool> single_word_;
  TokenTrie trie_;  // to indices of ids_
};

}  // namespace splitee::runtime
