// A trace: what every exit of a network said about every sample of a stream, as CSV.
//   label,pred_1,conf_1,...,pred_L,conf_L, or
//   label,p_1_1,...,p_1_K,p_2_1,...,p_L_K
// label and pred_i are class numbers, 0 .. 4095; label may be empty (not known). conf_i is the
// largest softmax probability of exit i, 0 .. 1, and p_i_k its probability of class k - 1; those of
// an exit add up to 1, and the first class of the largest is its answer. One sample a line, LF or
// CRLF; exits in order, the last one is the network's last. A byte order mark is left out.
// Pure: from and to bytes; files and compression are the caller's. Thread rule: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace splitee::policy {

using ClassNumber = std::int16_t;
inline constexpr ClassNumber kNoLabel = -1;

struct Trace {
  std::size_t exits = 0;
  std::vector<ClassNumber> label;       // (samples); kNoLabel where empty
  std::vector<ClassNumber> prediction;  // (samples, exits)
  std::vector<double> confidence;       // (samples, exits), as written

  std::size_t samples() const { return label.size(); }
  // Highest class number + 1, at least 2.
  std::size_t classes() const;
};

// Errors name `source` (a path), the line (1-based, the header is line 1) and the column. Refused:
// a header that is not exactly as above, too few or too many fields, a field that is not a number
// or out of range, and a trace without samples.
Result<Trace> parse_trace(std::string_view csv, std::string_view source);

// Writing. Numbers are the shortest text that reads back as the same float (or double).
std::string trace_header(std::size_t exits);
void append_trace_row(std::string& out, ClassNumber label, std::span<const ClassNumber> prediction,
                      std::span<const float> confidence);
std::string format_trace(const Trace& trace);

}  // namespace splitee::policy
