// Tokenizer: the first byte says how many tokens are taken and whether the rest is a text, a pair
// of texts (cut at the first zero byte), or a vocabulary (one token a line) and a text.
#include "runtime/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

using namespace splitee;
using namespace splitee::runtime;
using splitee::fuzz::require;

namespace {

constexpr std::uint8_t kPair = 0x80, kVocabulary = 0x40, kTokens = 0x3f;

const std::vector<std::string>& usual_vocab() {
  static const std::vector<std::string> vocab = {"[PAD]",
                                                 "[UNK]",
                                                 "[CLS]",
                                                 "[SEP]",
                                                 "[MASK]",
                                                 "a",
                                                 "b",
                                                 "ab",
                                                 "##a",
                                                 "##b",
                                                 "##ab",
                                                 "the",
                                                 "##s",
                                                 "!",
                                                 ",",
                                                 "#",
                                                 "1",
                                                 "##1",
                                                 "\xc3\xa9",
                                                 "##\xc3\xa9",
                                                 "\xe4\xb8\xad",
                                                 "##\xe2\x96\x81",
                                                 "i",
                                                 "##\xcf\x82"};
  return vocab;
}

void check(const Tokenizer& tokenizer, const Encoding& encoding, std::size_t most, bool pair) {
  require(encoding.ids.size() == encoding.types.size());
  require(encoding.ids.size() >= 2 && encoding.ids.size() <= most);
  std::size_t separators = 0;
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    require(encoding.ids[i] >= 0 &&
            static_cast<std::size_t>(encoding.ids[i]) < tokenizer.vocab().size());
    require(encoding.types[i] == 0 || (pair && encoding.types[i] == 1));
    const std::string_view token = tokenizer.vocab()[static_cast<std::size_t>(encoding.ids[i])];
    // No text can spell a special token.
    require((token == "[CLS]") == (i == 0));
    separators += token == "[SEP]";
  }
  require(separators == (pair ? 2 : 1));
}

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  const std::string vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n\xc3\xa9";
  return {"",
          "\x3fthe abs, the [SEP] [CLS]!",
          "\x10\xc3\x89t\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xcc\x81\xef\xbf\xbd\xf0\x9f\x98\x80",
          std::string("\x85"
                      "a b ab\0ab ab ab",
                      15),
          std::string("\x50") + vocab + std::string(1, '\0') + "ab \xc3\xa9 ab",
          std::string("\xd0") + vocab + std::string(1, '\0') + "a" + std::string(1, '\0') + "b",
          "\x3f\xce\x9f\xce\xa3 \xc4\xb0 \xc7\x85 \xed\xa0\x80 \xff\xfe" + std::string(120, 'a')};
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tokenizer usual = std::move(*Tokenizer::create(usual_vocab()));
  if (size == 0) return 0;
  std::string_view rest = splitee::fuzz::text_of(data + 1, size - 1);
  const auto next_part = [&rest] {
    const std::size_t end = std::min(rest.find('\0'), rest.size());
    const std::string_view part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return part;
  };
  const Tokenizer* tokenizer = &usual;
  std::optional<Tokenizer> own;
  if ((data[0] & kVocabulary) != 0) {
    std::vector<std::string> vocab;
    std::string_view list = next_part();
    while (!list.empty()) {
      const std::size_t end = std::min(list.find('\n'), list.size());
      vocab.emplace_back(list.substr(0, end));
      list.remove_prefix(std::min(end + 1, list.size()));
    }
    auto made = Tokenizer::create(vocab, {(data[0] & 1) != 0});
    if (!made.ok()) return 0;
    own.emplace(std::move(*made));
    tokenizer = &*own;
  }
  const bool pair = (data[0] & kPair) != 0;
  const std::size_t most = 3 + (data[0] & kTokens);
  const std::string_view text = pair ? next_part() : rest;
  const Encoding cut = tokenizer->encode(text, pair ? &rest : nullptr, most);
  check(*tokenizer, cut, most, pair);
  if (pair) return 0;
  // A single text that is cut keeps its first tokens.
  const Encoding whole = tokenizer->encode(text, nullptr, 4 * size + 8);
  require(whole.ids.size() <= most
              ? whole.ids == cut.ids
              : std::equal(cut.ids.begin(), cut.ids.end() - 1, whole.ids.begin()));
  return 0;
}
