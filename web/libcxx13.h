// What the C++ library of Debian 12's emscripten (LLVM 13's) lacks of C++20 and the sources use:
// algorithms of ranges, std::bit_cast, and floating point in <charconv>. Included before every file
// of the build for browsers and only there, so that the sources are the same for all; where a newer
// library is found, it is empty. Thread rule: pure functions.
#pragma once

#include <version>

#if defined(_LIBCPP_VERSION) && _LIBCPP_VERSION < 14000

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <system_error>

namespace std {

template <class To, class From>
constexpr To bit_cast(const From& from) noexcept {
  return __builtin_bit_cast(To, from);
}

// The shortest digits that read back as the same number, in the shorter of both notations.
template <class Number>
requires is_floating_point_v<Number> to_chars_result to_chars(char* begin, char* end,
                                                              Number value) {
  char scientific[48], fixed[400];
  int digits = 0;
  do {
    snprintf(scientific, sizeof scientific, "%.*e", digits, static_cast<double>(value));
  } while (++digits < numeric_limits<Number>::max_digits10 && value == value &&
           static_cast<Number>(strtod(scientific, nullptr)) != value);
  string text = scientific;
  if (const size_t e = text.find('e'); e != string::npos) {
    const int places = digits - 1 - atoi(text.c_str() + e + 1);
    snprintf(fixed, sizeof fixed, "%.*f", places < 0 ? 0 : places, static_cast<double>(value));
    if (const string other = fixed; other.size() <= text.size()) text = other;
  }
  if (text.size() > static_cast<size_t>(end - begin)) return {end, errc::value_too_large};
  return {copy(text.begin(), text.end(), begin), errc()};
}

template <class Number>
requires is_floating_point_v<Number> from_chars_result from_chars(const char* begin,
                                                                  const char* end, Number& value) {
  const auto part_of = [](char c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');  // of 1e5, nan, inf
    return (letter && c != 'x' && c != 'X') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
           c == '+';
  };
  const string text(begin, find_if_not(begin, end, part_of));
  char* stop = nullptr;
  const auto read = static_cast<Number>(strtod(text.c_str(), &stop));
  if (text.empty() || text[0] == '+' || stop == text.c_str())
    return {begin, errc::invalid_argument};
  const char* next = begin + (stop - text.c_str());
  if (read - read != 0) return {next, errc::result_out_of_range};
  value = read;
  return {next, errc()};
}

namespace ranges {

// Each takes a whole range, and a comparison and projections where the sources give them.
template <class Compare, class Project>
constexpr auto by(Compare& compare, Project& project) {
  return [&](const auto& a, const auto& b) -> bool {
    return std::invoke(compare, std::invoke(project, a), std::invoke(project, b));
  };
}

template <class Range, class Test>
constexpr bool all_of(Range&& range, Test test) {
  return std::all_of(std::begin(range), std::end(range), std::ref(test));
}
template <class Range, class Test>
constexpr bool any_of(Range&& range, Test test) {
  return std::any_of(std::begin(range), std::end(range), std::ref(test));
}
template <class Range, class Value>
constexpr auto count(Range&& range, const Value& value) {
  return std::count(std::begin(range), std::end(range), value);
}
template <class Range, class Test>
constexpr auto count_if(Range&& range, Test test) {
  return std::count_if(std::begin(range), std::end(range), std::ref(test));
}
template <class Range, class Value>
constexpr void fill(Range&& range, const Value& value) {
  std::fill(std::begin(range), std::end(range), value);
}
template <class Range, class Out>
constexpr void copy(Range&& range, Out out) {
  std::copy(std::begin(range), std::end(range), out);
}
template <class Range, class Value>
constexpr void replace(Range&& range, const Value& from, const Value& to) {
  std::replace(std::begin(range), std::end(range), from, to);
}
template <class Range, class Out, class Make>
constexpr void transform(Range&& range, Out out, Make make) {
  std::transform(std::begin(range), std::end(range), out, std::ref(make));
}
template <class Range, class Test, class Project = identity>
constexpr auto find_if(Range&& range, Test test, Project project = {}) {
  return std::find_if(std::begin(range), std::end(range), [&](const auto& element) -> bool {
    return std::invoke(test, std::invoke(project, element));
  });
}
template <class Range, class Test>
constexpr auto find_if_not(Range&& range, Test test) {
  return ranges::find_if(range, [&](const auto& element) { return !std::invoke(test, element); });
}
template <class Range, class Value, class Project = identity>
constexpr auto find(Range&& range, const Value& value, Project project = {}) {
  return ranges::find_if(
      range, [&](const auto& element) { return element == value; }, project);
}
template <class Range, class Compare>
constexpr auto adjacent_find(Range&& range, Compare compare) {
  return std::adjacent_find(std::begin(range), std::end(range), compare);
}
template <class Range>
constexpr auto max_element(Range&& range) {
  return std::max_element(std::begin(range), std::end(range));
}
template <class Range>
constexpr auto min(Range&& range) {
  return *std::min_element(std::begin(range), std::end(range));
}
template <class Range, class Compare = std::less<>, class Project = identity>
constexpr void sort(Range&& range, Compare compare = {}, Project project = {}) {
  std::sort(std::begin(range), std::end(range), ranges::by(compare, project));
}
template <class Range, class Compare = std::less<>, class Project = identity>
void stable_sort(Range&& range, Compare compare = {}, Project project = {}) {
  std::stable_sort(std::begin(range), std::end(range), ranges::by(compare, project));
}
template <class Range, class Value, class Compare = std::less<>, class Project = identity>
constexpr auto lower_bound(Range&& range, const Value& value, Compare compare = {},
                           Project project = {}) {
  return std::lower_bound(std::begin(range), std::end(range), value,
                          [&](const auto& element, const Value& wanted) -> bool {
                            return std::invoke(compare, std::invoke(project, element), wanted);
                          });
}
template <class Range, class Value, class Compare = std::less<>, class Project = identity>
constexpr auto upper_bound(Range&& range, const Value& value, Compare compare = {},
                           Project project = {}) {
  return std::upper_bound(std::begin(range), std::end(range), value,
                          [&](const Value& wanted, const auto& element) -> bool {
                            return std::invoke(compare, wanted, std::invoke(project, element));
                          });
}
template <class A, class B>
constexpr bool equal(A&& a, B&& b) {
  return std::equal(std::begin(a), std::end(a), std::begin(b), std::end(b));
}

}  // namespace ranges
}  // namespace std

#endif
