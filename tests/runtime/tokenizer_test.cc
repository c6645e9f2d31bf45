#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "base/utf8.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/token_trie.h"
#include "runtime/text/unicode.h"

namespace splitee::runtime {
namespace {

using namespace std::string_literals;

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

TEST_CASE("lower case is one character's own business: a capital sigma is never final") {
  const Tokenizer tokenizer = make_tokenizer();
  CHECK(tokens(tokenizer, "E\u03a3") == "e ##\u03c3");
  CHECK(tokens(tokenizer, "\u00c9\u03a3") == "e ##\u03c3");
  CHECK(tokens(tokenizer, "E\u03a3'E") == "e ##\u03c3 [UNK] e");
  CHECK(tokens(tokenizer, "\u03a3") == "\u03c3");
  CHECK(tokens(tokenizer, "\u03c2") == "\u03c2");
}

TEST_CASE("accents apart from lower case") {
  const Tokenizer kept = make_tokenizer({.lower_case = true, .strip_accents = false});
  CHECK(tokens(kept, "E \u00ea \u00ca e\u0301") == "e [UNK] [UNK] [UNK]");
  CHECK(tokens(kept, "\u0130") == "[UNK]");  // i and a dot above
  const Tokenizer stripped = make_tokenizer({.lower_case = false, .strip_accents = true});
  CHECK(tokens(stripped, "e \u00ea e\u0301 E \u00ca") == "e e e [UNK] [UNK]");
}

TEST_CASE("ideographs as letters") {
  const Tokenizer tokenizer = make_tokenizer({.split_ideographs = false});
  CHECK(tokens(tokenizer, "\u6f22 \u6f22\u6f22 low\u6f22") == "\u6f22 [UNK] [UNK]");
  // Of the ranges that BERT lists 256 characters are left out in practice.
  CHECK(char_kind(0x2B81F) == CharKind::kIdeograph);
  CHECK(char_kind(0x2B820) == CharKind::kText);
  CHECK(char_kind(0x2B91F) == CharKind::kText);
  CHECK(char_kind(0x2B920) == CharKind::kIdeograph);
}

TEST_CASE("characters that came after Unicode 8 are parts of words") {
  CHECK(char_kind(0x2E52) == CharKind::kText);         // punctuation
  CHECK_FALSE(is_nonspacing_mark(0x08D0));             // a mark
  CHECK(char_kind(0x13430) == CharKind::kText);        // a format character
  CHECK(char_kind(0x166D) == CharKind::kPunctuation);  // was one
  CHECK(is_nonspacing_mark(0x0301));
  CHECK(to_lower(0x1C89) == 0x1C8A);
  CHECK(to_lower(0x10D65) == 0x10D85);
  CHECK(is_word_char(0x13460));
  CHECK_FALSE(is_word_char(0x1345F));
  CHECK(is_word_char(0x2EE5D));
}

TEST_CASE("marks that came after Unicode 9 stay where they are written") {
  const Normalization stripped = {.strip_accents = true};
  // Below before above, where their order is known.
  CHECK(normalized("a\u08d4\u08e3\u302e\u302a", stripped) == "a\u302e\u08d4");
  CHECK(normalized("a\U0001d16d\U0001d165", stripped) == "a\U0001d165\U0001d16d");
  for (const std::string text :
       {"a\u0898\u0899", "a\u08ca\u08cf", "a\u1ac1\u1ac3", "a\U00010f48\U00010f46",
        "a\U0001d16d\u0898\U0001d165", "a\U00010f82\U00010f83", "a\U00010efd\u1715",
        "a\U0001e4ef\U0001e4ee"}) {
    CAPTURE(text);
    CHECK(normalized(text, stripped) == text);
  }
  CHECK(combining_class(0x08D3) == 0);
  CHECK(combining_class(0x08D4) == 230);
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

TEST_CASE(
    "of a pair the longer text is cut first; an odd token is the longer one's, else the second's") {
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
  CHECK(lengths("e e", 6) == Lengths(1, 2));
  CHECK(lengths("e e", 5) == Lengths(1, 1));
  CHECK(lengths("e e", 4) == Lengths(0, 1));
  CHECK(lengths("e e", 3) == Lengths(0, 0));
  CHECK(lengths("e e e e e e e e e", 10) == Lengths(4, 3));
  CHECK(lengths("e e e e e e e e e", 12) == Lengths(5, 4));
  CHECK(lengths("e e e e e e e e e", 6) == Lengths(2, 1));  // both longer than all that is kept
  CHECK(lengths("e e e e", 6) == Lengths(1, 2));
  CHECK(lengths("e e e", 6) == Lengths(1, 2));
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
    CHECK_FALSE(valid_utf8(bad));
  }
  CHECK(valid_utf8("a\u00e9\u6f22\U0001F600\uFFFD"));
}

TEST_CASE("huge texts take linear time and only the tokens asked for") {
  const Tokenizer tokenizer = make_tokenizer();
  std::string words;
  for (int i = 0; i < 100000; ++i) words += "unwanted ";
  CHECK(tokenizer.encode(words, nullptr, 128).ids.size() == 128);
  CHECK(tokenizer.encode(words, nullptr, 1000000).ids.size() == 300002);
  CHECK(tokens(tokenizer, std::string(10'000'000, 'e')) == "[UNK]");
  std::string sigmas = "E";
  for (int i = 0; i < 1'000'000; ++i) sigmas += "\u03a3'";
  const std::string_view second = sigmas;
  CHECK(tokenizer.encode(sigmas, &second, 1000).ids.size() == 1000);
  std::string marks = "e";  // marks in an order that has to be sorted, far beyond a word's length
  for (int i = 0; i < 1'000'000; ++i) marks += "\U0001d16d\U0001d165";
  CHECK(tokens(tokenizer, marks) == "[UNK]");
}

// kVocab with tokens that a text may spell: ids 30 and on.
Tokenizer with_added(const std::vector<std::string>& spellings, std::vector<AddedToken> added,
                     TokenizerOptions options = {}) {
  std::vector<std::string> vocab = kVocab;
  vocab.insert(vocab.end(), spellings.begin(), spellings.end());
  for (std::size_t i = 0; i < added.size(); ++i) {
    if (added[i].id == 0) added[i].id = static_cast<std::int32_t>(kVocab.size() + i);
  }
  options.added_tokens = std::move(added);
  auto tokenizer = Tokenizer::create(std::move(vocab), options);
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  return std::move(*tokenizer);
}

Ids ids(const Tokenizer& tokenizer, std::string_view text, std::size_t limit = 1000) {
  const Ids all = tokenizer.encode(text, nullptr, limit).ids;
  return {all.begin() + 1, all.end() - 1};
}

constexpr std::int32_t kLow = 15, kE = 20, kFirst = 30;

TEST_CASE("added tokens are found in the text as it is") {
  const Tokenizer tokenizer = with_added({"[URL]", "[URLS]", "Low", "\u00e9x"}, {{}, {}, {}, {}});
  CHECK(ids(tokenizer, "[URL]") == Ids{kFirst});
  CHECK(ids(tokenizer, "low[URL]low") == Ids{kLow, kFirst, kLow});
  CHECK(ids(tokenizer, "[URLS][URL]") == Ids{kFirst + 1, kFirst});
  CHECK(ids(tokenizer, "[URLS[URL]") == Ids{17, 1, kFirst});
  CHECK(ids(tokenizer, "[url]") == Ids{17, 1, 18});
  CHECK(ids(tokenizer, "Low low LOW") == Ids{kFirst + 2, kLow, kLow});
  CHECK(ids(tokenizer, "e\u00e9xe") == Ids{kE, kFirst + 3, kE});
  CHECK(ids(tokenizer, "[URL] [URL] [URL]", 4) == Ids{kFirst, kFirst});
  // A limit within, before and after a token, and no token of a text that a limit leaves out.
  CHECK(ids(tokenizer, "low [URL] low", 3) == Ids{kLow});
  CHECK(ids(tokenizer, "low [URL] low", 4) == Ids{kLow, kFirst});
}

TEST_CASE("added tokens that are found in the normalized text") {
  const Tokenizer tokenizer =
      with_added({"Foo B\u00e1r", "\u6f22\u6f22"}, {{.normalized = true}, {.normalized = true}});
  CHECK(ids(tokenizer, "low FOO bar low") == Ids{kLow, kFirst, kLow});
  CHECK(ids(tokenizer, "f\u00f3o\tBAR") == Ids{kFirst});
  CHECK(ids(tokenizer, "lowfoo barlow") == Ids{kLow, kFirst, kLow});
  CHECK(ids(tokenizer, "foobar") == Ids{1});
  CHECK(ids(tokenizer, "low\u6f22\u6f22low") == Ids{kLow, kFirst + 1, kLow});
  const Tokenizer both = with_added({"Foo", "foo"}, {{}, {.normalized = true}});
  CHECK(ids(both, "Foo foo FOO") == Ids{kFirst, kFirst + 1, kFirst + 1});
}

TEST_CASE("added tokens that have to be single words") {
  const Tokenizer tokenizer = with_added({"low"s + "x", "a"}, {{.single_word = true}, {}});
  CHECK(ids(tokenizer, "lowx") == Ids{kFirst});
  CHECK(ids(tokenizer, "(lowx)").at(1) == kFirst);
  for (const char* beside : {"e", "9", "_", "\u00e9", "\u0301", "\u6f22"}) {
    CHECK(ids(tokenizer, beside + "lowx"s).back() != kFirst);
    CHECK(ids(tokenizer, "lowx"s + beside).front() != kFirst);
  }
  for (const char* beside : {" ", "-", "\u2014", "\U0001F600"}) {
    CHECK(ids(tokenizer, "lowx"s + beside).front() == kFirst);
    CHECK(ids(tokenizer, beside + "lowx"s).back() == kFirst);
  }
}

TEST_CASE("added tokens are words too where they are words of the vocabulary") {
  // "lo" is not in the vocabulary: its token is found in the text alone, which is not "LO".
  const Tokenizer added = with_added({"lo"}, {{}});
  CHECK(ids(added, "lo LO") == Ids{kFirst, 1});
  const Tokenizer word = with_added({}, {{.id = kLow, .single_word = true, .word = true}});
  CHECK(ids(word, "low LOW") == Ids{kLow, kLow});
}

TEST_CASE("added tokens that cannot be told apart are refused") {
  const auto refused = [](std::vector<std::string> more, std::vector<AddedToken> added) {
    std::vector<std::string> vocab = kVocab;
    vocab.insert(vocab.end(), more.begin(), more.end());
    TokenizerOptions options;
    options.added_tokens = std::move(added);
    const auto tokenizer = Tokenizer::create(vocab, options);
    REQUIRE_FALSE(tokenizer.ok());
    CHECK(tokenizer.status().code() == Code::kCorrupt);
    return tokenizer.status().message();
  };
  CHECK(refused({}, {{.id = 30}}) == "added token 30 is no token");
  CHECK(refused({}, {{.id = -1}}) == "added token -1 is no token");
  CHECK(refused({"\u0301"}, {{.id = 30, .normalized = true}}) == "added token 30 is empty");
  CHECK(refused({"Foo", "FOO"}, {{.id = 30, .normalized = true}, {.id = 31, .normalized = true}})
            .ends_with("is looked for as token 30 is"));
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
