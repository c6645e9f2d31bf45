#include "runtime/text/added_tokens.h"

#include <algorithm>

#include "runtime/text/unicode.h"

namespace splitee::runtime {
namespace {

bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word_char(decode_utf8(text, 0).value);
}

bool ends_with_word(std::string_view text) {
  constexpr std::size_t kMostBytes = 4;  // of a character
  for (std::size_t bytes = 1; bytes <= std::min(kMostBytes, text.size()); ++bytes) {
    const std::size_t start = text.size() - bytes;
    const auto lead = static_cast<unsigned char>(text[start]);
    if ((lead & 0xC0u) != 0x80u) return is_word_char(decode_utf8(text, start).value);
  }
  return false;
}

}  // namespace

Result<AddedTokens> AddedTokens::create(std::vector<Entry> entries) {
  std::ranges::sort(entries, {}, &Entry::text);
  AddedTokens result;
  std::vector<TokenTrie::Entry> sorted;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& [token, text] = entries[i];
    const std::string id = std::to_string(token.id);
    if (text.empty()) return Status(Code::kCorrupt, "added token " + id + " is empty");
    if (i > 0 && text == entries[i - 1].text) {
      return Status(Code::kCorrupt, "added token " + id + " is looked for as token " +
                                        std::to_string(entries[i - 1].token.id) + " is");
    }
    result.ids_.push_back(token.id);
    result.single_word_.push_back(token.single_word);
    sorted.push_back({text, static_cast<std::int32_t>(i)});
  }
  result.trie_ = TokenTrie(sorted);
  return result;
}

std::vector<TextPart> AddedTokens::split(std::string_view text) const {
  std::vector<TextPart> parts;
  std::size_t start = 0;  // of the text after the last token
  const auto end_text = [&](std::size_t end) {
    if (start < end) parts.push_back({text.substr(start, end - start)});
  };
  for (std::size_t i = 0; i < text.size();) {
    const TokenTrie::Match match = trie_.longest(text.substr(i));
    if (match.bytes == 0) {
      ++i;
      continue;
    }
    const auto index = static_cast<std::size_t>(match.id);
    const std::size_t end = i + match.bytes;
    const bool beside_word = single_word_[index] && (ends_with_word(text.substr(0, i)) ||
                                                     starts_with_word(text.substr(end)));
    if (!beside_word) {
      end_text(i);
      parts.push_back({text.substr(i, match.bytes), ids_[index]});
      start = end;
    }
    i = end;
  }
  end_text(text.size());
  return parts;
}

}  // namespace splitee::runtime
