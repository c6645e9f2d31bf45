#include "runtime/tokenizer.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/token_trie.h"
#include "runtime/unicode.h"

namespace splitee::runtime {
namespace {

using Ids = std::vector<std::int32_t>;

// [CLS] and [SEP] have the ids that the checks below call kCls and kSep.
const std::vector<std::string> kVocab = {
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un",  "##aff",  "##able", "want", "##want",
    "##ed",  "wa",    "runn",  "##ing", ",",      "low", "lowest", "[",      "]",    "sep",
    "e",     "##e",   "漢",    "##s",   "i",      "##i", "ς",      "##ς",    "σ",    "##σ"};
constexpr std::int32_t kCls = 2, kSep = 3;

Tokenizer make_tokenizer(TokenizerOptions options = {}) {
  auto tokenizer = Tokenizer::create(kVocab, options);
  REQUIRE(tokenizer.ok());
  return std::move(*tokenizer);
}

// Spelled tokens of a text without [CLS] and [SEP].
std::string tokens(const Tokenizer& tokenizer, std::string_view text, std::size_t limit = 1000) {
  const Encoding encoding = tokenizer.encode(text, nullptr, limit);
  REQUIRE(encoding.ids.size() >= 2);
  CHECK(encoding.ids.front() == kCls);
  CHECK(encoding.ids.back() == kSep);
  CHECK(encoding.types == Ids(encoding.ids.size(), 0));
  std::string result;
  for (std::size_t i = 1; i + 1 < encoding.ids.size(); ++i) {
    if (i > 1) result += ' ';
    result += kVocab[static_cast<std::size_t>(encoding.ids[i])];
  }
  return result;
}

std::string refusal(std::vector<std::string> vocab) {
  const auto tokenizer = Tokenizer::create(std::move(vocab));
  REQUIRE_FALSE(tokenizer.ok());
  CHECK(tokenizer.status().code() == Code::kCorrupt);
  return tokenizer.status().message();
}

TEST_CASE("words are cut into the longest known pieces") {
  const Tokenizer tokenizer = make_tokenizer();
  CHECK(tokens(tokenizer, "unwanted running") == "un ##want ##ed runn ##ing");
  CHECK(tokens(tokenizer, "unaffable") == "un ##aff ##able");
  CHECK(tokens(tokenizer, "lowest low") == "lowest low");
  CHECK(tokens(tokenizer, "unwantedX running") == "[UNK] runn ##ing");
  CHECK(tokens(tokenizer, "waing ing") == "wa ##ing [UNK]");
}

TEST_CASE("lower case, accents, punctuation and ideographs") {
  const Tokenizer tokenizer = make_tokenizer();
  CHECK(tokens(tokenizer, "UNwant\u00c9d") == "un ##want ##ed");
  CHECK(tokens(tokenizer, "e\u0301 \u00ea") == "e e");
  CHECK(tokens(tokenizer, "low,\u6f22low") == "low , \u6f22 low");
  CHECK(tokens(tokenizer, "lo\u200dw lo\x01w lo\uFFFDw") == "low low low");
  CHECK(tokens(tokenizer, "low\u3000low\u2028low\r\n\tlow") == "low low low low");
  CHECK(tokens(tokenizer, "\u0130") == "i");
  CHECK(tokens(tokenizer, "\u0130\u0130") == "i ##i");
  const Tokenizer cased = make_tokenizer({.lower_case = false});
  CHECK(tokens(cased, "Low low \u00ea e") == "[UNK] low [UNK] e");
}

TEST_CASE("a capital sigma is final where no cased letter follows") {
  const Tokenizer tokenizer = make_tokenizer();
  CHECK(tokens(tokenizer, "E\u03a3") == "e ##\u03c2");
  CHECK(tokens(tokenizer, "E\u03a3'") == "e ##\u03c2 [UNK]");
  CHECK(tokens(tokenizer, "E\u03a3'E") == "e ##\u03c3 [UNK] e");
  CHECK(tokens(tokenizer, "E\u03a3 E") == "e ##\u03c2 e");
  CHECK(tokens(tokenizer, "\u03a3") == "\u03c3");
  CHECK(tokens(tokenizer, "E \u03a3") == "e \u03c3");
  CHECK(tokens(tokenizer, "E\u6f22\u03a3") == "e \u6f22 \u03c3");
  CHECK(tokens(tokenizer, "E\u03a3\u6f22E") == "e ##\u03c2 \u6f22 e");
}

TEST_CASE("no text can spell a special token") {
  const Tokenizer tokenizer = make_tokenizer();
  CHECK(tokens(tokenizer, "[SEP]") == "[ sep ]");
  const Tokenizer cased = make_tokenizer({.lower_case = false});
  CHECK(tokens(cased, "[SEP][CLS]") == "[ [UNK] ] [ [UNK] ]");
}

TEST_CASE("empty texts") {
  const Tokenizer tokenizer = make_tokenizer();
  const std::string_view empty;
  for (const std::string text : {"", " ", "\t\r\n", "\x01", "\u0301", "\u200b\u00ad"}) {
    CHECK(tokenizer.encode(text, nullptr, 3).ids == Ids{kCls, kSep});
    const Encoding pair = tokenizer.encode(text, &empty, 3);
    CHECK(pair.ids == Ids{kCls, kSep, kSep});
    CHECK(pair.types == Ids{0, 0, 1});
  }
  CHECK(tokens(tokenizer, std::string_view("low\0low", 7)) == "[UNK]");
  CHECK(tokens(tokenizer, std::string_view("lo\0w", 4)) == "low");
}

TEST_CASE("a single text keeps its first tokens") {
  const Tokenizer tokenizer = make_tokenizer();
  CHECK(tokens(tokenizer, "unwanted running low", 3) == "un");
  CHECK(tokens(tokenizer, "unwanted running low", 4) == "un ##want");
  CHECK(tokens(tokenizer, "unwanted running low", 8) == "un ##want ##ed runn ##ing low");
  CHECK(tokens(tokenizer, "unwanted running low", 7) == "un ##want ##ed runn ##ing");
  // The word that does not fit is read to its end: it may turn out to be unknown.
  CHECK(tokens(tokenizer, "low unwantedX", 4) == "low [UNK]");
}

TEST_CASE("of a pair the longer text is cut first, of equals the second") {
  const Tokenizer tokenizer = make_tokenizer();
  const std::string_view second = "low , low ,";
  const auto lengths = [&](std::string_view first, std::size_t limit) {
    const Encoding encoding = tokenizer.encode(first, &second, limit);
    CHECK(encoding.ids.size() == encoding.types.size());
    CHECK(encoding.ids.size() <= limit);
    const auto ones = std::count(encoding.types.begin(), encoding.types.end(), 1);
    const auto zeros = std::count(encoding.types.begin(), encoding.types.end(), 0);
    CHECK(encoding.ids.back() == kSep);
    CHECK(encoding.ids[static_cast<std::size_t>(zeros) - 1] == kSep);
    return std::pair(zeros - 2, ones - 1);
  };
  using Lengths = std::pair<std::ptrdiff_t, std::ptrdiff_t>;
  CHECK(lengths("e e", 9) == Lengths(2, 4));
  CHECK(lengths("e e", 8) == Lengths(2, 3));
  CHECK(lengths("e e", 7) == Lengths(2, 2));
  CHECK(lengths("e e", 6) == Lengths(2, 1));
  CHECK(lengths("e e", 5) == Lengths(1, 1));
  CHECK(lengths("e e", 4) == Lengths(1, 0));
  CHECK(lengths("e e", 3) == Lengths(0, 0));
  CHECK(lengths("e e e e e e e e e", 10) == Lengths(4, 3));
  CHECK(lengths("e e e e e e e e e", 12) == Lengths(5, 4));
}

TEST_CASE("words of 100 characters are known, longer ones are not") {
  const Tokenizer tokenizer = make_tokenizer();
  const Encoding exact = tokenizer.encode(std::string(100, 'e'), nullptr, 1000);
  CHECK(exact.ids.size() == 102);
  CHECK(tokens(tokenizer, std::string(101, 'e')) == "[UNK]");
  // Accents do not count, decomposed letters do once.
  std::string accented;
  for (int i = 0; i < 100; ++i) accented += "\u00c9\u0301";
  CHECK(tokenizer.encode(accented, nullptr, 1000).ids == exact.ids);
}

TEST_CASE("invalid UTF-8 is dropped") {
  const Tokenizer tokenizer = make_tokenizer();
  for (const std::string bad : {"\x80", "\xc3", "\xe6\xbc", "\xf0\x9f\x98", "\xc0\xaf", "\xff\xfe",
                                "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80"}) {
    CHECK(tokens(tokenizer, std::string("lo") + bad + "w") == "low");
    CHECK(tokens(tokenizer, std::string("low") + bad) == "low");
    CHECK(tokens(tokenizer, bad) == "");
    CHECK_FALSE(is_valid_utf8(bad));
  }
  CHECK(is_valid_utf8("a\u00e9\u6f22\U0001F600\uFFFD"));
}

TEST_CASE("huge texts take linear time and only the tokens asked for") {
  const Tokenizer tokenizer = make_tokenizer();
  std::string words;
  for (int i = 0; i < 100000; ++i) words += "unwanted ";
  CHECK(tokenizer.encode(words, nullptr, 128).ids.size() == 128);
  CHECK(tokenizer.encode(words, nullptr, 1000000).ids.size() == 300002);
  CHECK(tokens(tokenizer, std::string(10'000'000, 'e')) == "[UNK]");
  std::string sigmas = "E";  // a quadratic search for the end of the word would never come back
  for (int i = 0; i < 1'000'000; ++i) sigmas += "\u03a3'";
  const std::string_view second = sigmas;
  CHECK(tokenizer.encode(sigmas, &second, 1000).ids.size() == 1000);
  std::string marks = "e";  // marks in an order that has to be sorted, far beyond a word's length
  for (int i = 0; i < 1'000'000; ++i) marks += "\U0001d16d\U0001d165";
  CHECK(tokens(tokenizer, marks) == "[UNK]");
}

TEST_CASE("threads share a tokenizer") {
  const Tokenizer tokenizer = make_tokenizer();
  std::vector<Encoding> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) result = tokenizer.encode("unwanted, running", nullptr, 16);
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result.ids == Ids{2, 5, 9, 10, 14, 12, 13, 3});
}

TEST_CASE("bad vocabularies are refused by name") {
  for (std::size_t i = 0; i < 4; ++i) {
    auto vocab = kVocab;
    const std::string missing = std::exchange(vocab[i], "other");
    CHECK(refusal(vocab) == std::string("vocabulary: ") + missing + " is missing");
  }
  const auto with = [](std::string token) {
    auto vocab = kVocab;
    vocab.push_back(std::move(token));
    return vocab;
  };
  CHECK(refusal(with("low")) == "vocabulary: token 30 repeats token 15");
  CHECK(refusal(with("")) == "vocabulary: token 30 is empty");
  CHECK(refusal(with("\xc3")) == "vocabulary: token 30 is not UTF-8");
  CHECK(refusal({}) == "vocabulary: [PAD] is missing");
  CHECK(Tokenizer::create(with("##")).ok());
  CHECK(Tokenizer::create(with(std::string(100000, 'a'))).ok());
}

TEST_CASE("the trie finds the longest entry") {
  const std::vector<TokenTrie::Entry> entries = {
      {"a", 7}, {"abc", 8}, {"abcde", 9}, {"b", 10}, {"\xff", 11}};
  const TokenTrie trie{entries};
  const auto check = [&trie](std::string_view text, std::int32_t id, std::size_t bytes) {
    const TokenTrie::Match match = trie.longest(text);
    CHECK(match.id == id);
    CHECK(match.bytes == bytes);
  };
  check("abcd", 8, 3);
  check("abcdef", 9, 5);
  check("ab", 7, 1);
  check("b", 10, 1);
  check("\xff\xff", 11, 1);
  check("", -1, 0);
  check("c", -1, 0);
  CHECK(TokenTrie(std::vector<TokenTrie::Entry>{}).longest("a").bytes == 0);
  CHECK(TokenTrie().longest("a").bytes == 0);
}

}  // namespace
}  // namespace splitee::runtime
