#include "policy/replay/trace.h"

#include <algorithm>
#include <charconv>

#include "base/limits.h"

namespace splitee::policy {
namespace {

constexpr std::size_t kMaxExits = 1024;

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr double kSumTolerance = 0.01;  // of an exit's probabilities

// `classes` is 0 in a trace of classes and confidences.
std::string column_name(std::size_t column, std::size_t classes = 0) {
  if (column == 0) return "label";
  if (classes > 0) {
    return "p_" + std::to_string((column - 1) / classes + 1) + "_" +
           std::to_string((column - 1) % classes + 1);
  }
  std::string name = column % 2 == 1 ? "pred_" : "conf_";
  name += std::to_string((column + 1) / 2);
  return name;
}

// Columns of the first exit's probabilities in a header; 0 where there is none.
std::size_t classes_in(std::string_view header) {
  std::size_t classes = 0;
  for (std::size_t at = header.find(','); at != header.npos; at = header.find(',', at + 1)) {
    if (header.substr(at + 1).starts_with("p_1_")) ++classes;
  }
  return classes;
}

// Up to 32 bytes of a field, safe to print.
std::string quoted(std::string_view field) {
  std::string text = "'";
  for (const char c : field.substr(0, 32)) text += c >= ' ' && c <= '~' ? c : '?';
  return text + (field.size() > 32 ? "...'" : "'");
}

class Parser {
 public:
  Parser(std::string_view csv, std::string_view source) : rest_(csv), source_(source) {}

  Result<Trace> parse() {
    if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
    if (Status status = parse_header(); !status.ok()) return status;
    reserve();
    while (!rest_.empty()) {
      const std::string_view row = next_line();
      if (row.empty() && rest_.empty()) break;  // a blank last line
      if (Status status = parse_row(row); !status.ok()) return status;
    }
    if (trace_.samples() == 0) return error("no samples");
    return std::move(trace_);
  }

 private:
  Status error(const std::string& why) const {
    return {Code::kCorrupt, source_ + ": line " + std::to_string(line_) + ": " + why};
  }
  Status error(std::size_t column, const std::string& why) const {
    return error("column " + column_name(column, classes_) + ": " + why);
  }

  std::string_view next_line() {
    ++line_;
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    std::string_view row = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    if (row.ends_with('\r')) row.remove_suffix(1);
    return row;
  }

  Status parse_header() {
    std::string_view row = next_line();
    classes_ = classes_in(row);
    if (classes_ > kMaxClasses)
      return error("more than " + std::to_string(kMaxClasses) + " classes");
    std::size_t column = 0;
    for (bool more = true; more; ++column) {
      const std::size_t comma = row.find(',');
      const std::string_view field = row.substr(0, comma);
      const std::string expected = column_name(column, classes_);
      if (field != expected) {
        return error("expected column " + expected + ", found " + quoted(field));
      }
      more = comma != std::string_view::npos;
      if (more) row.remove_prefix(comma + 1);
    }
    const std::size_t width = classes_ > 0 ? classes_ : 2;
    if (column < 3 || (column - 1) % width != 0) {
      return error("the header ends before column " + column_name(column, classes_));
    }
    columns_ = column;
    trace_.exits = (column - 1) / width;
    if (trace_.exits > kMaxExits) {
      return error("more than " + std::to_string(kMaxExits) + " exits");
    }
    return {};
  }

  // Each sample takes at least this many bytes, so the reservation is bounded by the input.
  void reserve() {
    const std::size_t shortest_row = 4 * trace_.exits;
    const std::size_t typical_row = std::max<std::size_t>(rest_.find('\n') + 1, shortest_row);
    const std::size_t samples = rest_.size() / typical_row + 1;
    trace_.label.reserve(samples);
    trace_.prediction.reserve(samples * trace_.exits);
    trace_.confidence.reserve(samples * trace_.exits);
  }

  Status parse_row(std::string_view row) {
    if (row.empty()) return error("empty");
    const char* at = row.data();
    const char* const end = at + row.size();
    ClassNumber label = kNoLabel;
    if (at == end || *at != ',') {
      if (Status status = parse_class(at, end, 0, label); !status.ok()) return status;
    }
    trace_.label.push_back(label);
    for (std::size_t exit = 0; exit < trace_.exits; ++exit) {
      ClassNumber prediction = 0;
      double confidence = 0.0;
      const Status status = classes_ > 0
                                ? parse_probabilities(at, end, exit, prediction, confidence)
                                : parse_pair(at, end, exit, prediction, confidence);
      if (!status.ok()) return status;
      trace_.prediction.push_back(prediction);
      trace_.confidence.push_back(confidence);
    }
    if (at == end) return {};
    return error("more fields than the header's " + std::to_string(columns_));
  }

  Status parse_pair(const char*& at, const char* end, std::size_t exit, ClassNumber& prediction,
                    double& confidence) const {
    Status status = skip_comma(at, end, 2 * exit + 1);
    if (status.ok()) status = parse_class(at, end, 2 * exit + 1, prediction);
    if (status.ok()) status = skip_comma(at, end, 2 * exit + 2);
    if (status.ok()) status = parse_confidence(at, end, 2 * exit + 2, confidence);
    return status;
  }

  // Its answer is the first class of the largest probability.
  Status parse_probabilities(const char*& at, const char* end, std::size_t exit,
                             ClassNumber& prediction, double& confidence) const {
    double sum = 0.0;
    confidence = -1.0;
    for (std::size_t k = 0; k < classes_; ++k) {
      double value = 0.0;
      const std::size_t column = exit * classes_ + k + 1;
      if (Status status = skip_comma(at, end, column); !status.ok()) return status;
      if (Status status = parse_confidence(at, end, column, value); !status.ok()) return status;
      sum += value;
      if (value <= confidence) continue;
      confidence = value;
      prediction = static_cast<ClassNumber>(k);
    }
    if (sum >= 1.0 - kSumTolerance && sum <= 1.0 + kSumTolerance) return {};
    return error("the probabilities of exit " + std::to_string(exit + 1) + " add up to " +
                 std::to_string(sum));
  }

  Status skip_comma(const char*& at, const char* end, std::size_t column) const {
    if (at == end) return error(column, "missing: the line ends before it");
    ++at;  // the field before it ended at a comma
    return {};
  }

  static std::string_view field_at(const char* at, const char* end) {
    return {at, static_cast<std::size_t>(std::find(at, end, ',') - at)};
  }

  Status parse_class(const char*& at, const char* end, std::size_t column,
                     ClassNumber& value) const {
    const auto [next, problem] = std::from_chars(at, end, value);
    const bool whole = next == end || *next == ',';
    const bool outside = value < 0 || value >= ClassNumber{kMaxClasses};
    if (problem == std::errc::result_out_of_range || (problem == std::errc() && outside)) {
      return error(column, quoted(field_at(at, end)) + " is not a class number (0 to 4095)");
    }
    if (problem != std::errc() || !whole) {
      return error(column, quoted(field_at(at, end)) + " is not a whole number");
    }
    at = next;
    return {};
  }

  Status parse_confidence(const char*& at, const char* end, std::size_t column,
                          double& value) const {
    const auto [next, problem] = std::from_chars(at, end, value);
    const bool whole = next == end || *next == ',';
    if (problem == std::errc::invalid_argument || !whole) {
      return error(column, quoted(field_at(at, end)) + " is not a number");
    }
    if (problem != std::errc() || !(value >= 0.0 && value <= 1.0)) {
      return error(column, quoted(field_at(at, end)) + " is not between 0 and 1");
    }
    at = next;
    return {};
  }

  std::string_view rest_;
  std::string source_;
  std::size_t line_ = 0;
  std::size_t classes_ = 0;  // of a trace of probabilities; 0 in one of classes and confidences
  std::size_t columns_ = 0;
  Trace trace_;
};

template <class Number>
void append_number(std::string& out, Number value) {
  char text[32];
  const auto written = std::to_chars(std::begin(text), std::end(text), value);
  out.append(text, written.ptr);
}

template <class Confidence>
void append_row(std::string& out, ClassNumber label, std::span<const ClassNumber> prediction,
                std::span<const Confidence> confidence) {
  if (label != kNoLabel) append_number(out, label);
  for (std::size_t exit = 0; exit < prediction.size(); ++exit) {
    out += ',';
    append_number(out, prediction[exit]);
    out += ',';
    append_number(out, confidence[exit]);
  }
  out += '\n';
}

}  // namespace

std::size_t Trace::classes() const {
  ClassNumber highest = 1;
  for (const ClassNumber value : label) highest = std::max(highest, value);
  for (const ClassNumber value : prediction) highest = std::max(highest, value);
  return static_cast<std::size_t>(highest) + 1;
}

Result<Trace> parse_trace(std::string_view csv, std::string_view source) {
  return Parser(csv, source).parse();
}

std::string trace_header(std::size_t exits) {
  std::string header = "label";
  for (std::size_t column = 1; column <= 2 * exits; ++column) {
    header += ',';
    header += column_name(column);
  }
  header += '\n';
  return header;
}

void append_trace_row(std::string& out, ClassNumber label, std::span<const ClassNumber> prediction,
                      std::span<const float> confidence) {
  append_row(out, label, prediction, confidence);
}

std::string format_trace(const Trace& trace) {
  std::string out = trace_header(trace.exits);
  for (std::size_t sample = 0; sample < trace.samples(); ++sample) {
    const std::size_t row = sample * trace.exits;
    append_row(out, trace.label[sample], std::span(trace.prediction).subspan(row, trace.exits),
               std::span(trace.confidence).subspan(row, trace.exits));
  }
  return out;
}

}  // namespace splitee::policy
