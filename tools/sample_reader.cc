#include "tools/sample_reader.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "tools/utf8.h"

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

namespace {

void split_fields(std::string_view line, std::vector<std::string_view>& fields) {
  fields.clear();
  for (;;) {
    const std::size_t tab = line.find('\t');
    fields.push_back(line.substr(0, tab));
    if (tab == std::string_view::npos) return;
    line.remove_prefix(tab + 1);
  }
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

SampleReader::SampleReader(LineReader lines, std::vector<std::string> labels)
    : lines_(std::move(lines)), labels_(std::move(labels)) {
  for (std::size_t i = 0; i < labels_.size(); ++i) {
    const std::optional<std::uint64_t> number = whole_number(labels_[i]);
    if (number && *number != i) names_only_ = true;
  }
}

Result<SampleReader> SampleReader::open(LineReader lines, InputFormat format,
                                        std::vector<std::string> labels) {
  SampleReader reader(std::move(lines), std::move(labels));
  reader.tsv_ = format == InputFormat::kTsv;
  if (reader.tsv_) {
    const Status status = reader.read_header();
    if (!status.ok()) return status;
  }
  return reader;
}

Status SampleReader::error(const std::string& what) const {
  return Status(Code::kCorrupt,
                fmt::format("{}: line {}: {}", lines_.name(), lines_.line_number(), what));
}

Status SampleReader::read_header() {
  Result<std::optional<std::string_view>> line = lines_.next();
  if (!line.ok()) return line.status();
  if (!*line) {
    if (lines_.stopped()) return {};
    return Status(Code::kNotFound, lines_.name() + ": no header line with a column 'text'");
  }
  if ((*line)->find('\r') != std::string_view::npos) {
    return error("a carriage return within the header: lines end with LF or CRLF");
  }
  split_fields(**line, fields_);
  columns_ = fields_.size();
  const auto column = [&](std::string_view name) -> std::optional<std::size_t> {
    const auto found = std::find(fields_.begin(), fields_.end(), name);
    if (found == fields_.end()) return std::nullopt;
    return static_cast<std::size_t>(found - fields_.begin());
  };
  const std::optional<std::size_t> text = column("text");
  if (!text) return error("the header names no column 'text'");
  for (const std::string_view name : {"text", "text2", "label"}) {
    if (std::count(fields_.begin(), fields_.end(), name) > 1) {
      return error(fmt::format("the header names column '{}' twice", name));
    }
  }
  text_column_ = *text;
  text2_column_ = column("text2");
  label_column_ = column("label");
  return {};
}

Result<std::optional<std::uint32_t>> SampleReader::read_label(std::string_view field) const {
  if (field.empty()) return std::optional<std::uint32_t>();
  const std::optional<std::uint64_t> number = whole_number(field);
  if (!names_only_ && number && *number < labels_.size()) {
    return std::optional(static_cast<std::uint32_t>(*number));
  }
  const auto found = std::find(labels_.begin(), labels_.end(), field);
  if (found != labels_.end()) {
    return std::optional(static_cast<std::uint32_t>(found - labels_.begin()));
  }
  std::string names;
  for (const std::string& label : labels_) names += (names.empty() ? "" : ", ") + label;
  const std::string numbers =
      names_only_ ? "not"
                  : fmt::format("neither a class number from 0 to {} nor", labels_.size() - 1);
  return error(
      fmt::format("column 'label': '{}' is {} one of {}", field.substr(0, 40), numbers, names));
}

Status SampleReader::read_row(std::string_view line, Sample& sample) {
  split_fields(line, fields_);
  if (fields_.size() != columns_) {
    const bool no_text = fields_.size() <= text_column_;
    return error(fmt::format("{} field(s), but the header names {} columns{}", fields_.size(),
                             columns_, no_text ? "; column 'text' is missing" : ""));
  }
  sample.text.assign(fields_[text_column_]);
  if (text2_column_) sample.text2 = std::string(fields_[*text2_column_]);
  if (label_column_) {
    Result<std::optional<std::uint32_t>> truth = read_label(fields_[*label_column_]);
    if (!truth.ok()) return truth.status();
    sample.truth = *truth;
  }
  return {};
}

Result<bool> SampleReader::next(Sample& sample) {
  for (;;) {
    Result<Row> row = next_row(sample);
    if (!row.ok()) return row.status();
    if (!bad_row_.empty()) return Status(Code::kCorrupt, bad_row_);
    if (*row != Row::kNoSample) return *row == Row::kSample;
  }
}

Result<SampleReader::Row> SampleReader::next_row(Sample& sample) {
  bad_row_.clear();
  Result<std::optional<std::string_view>> line = lines_.next();
  if (!line.ok()) return line.status();
  if (!*line) return Row::kEnd;
  sample.truth.reset();
  sample.text2.reset();
  if (tsv_) {
    if ((*line)->empty() && columns_ > 1) return Row::kNoSample;
    const Status status = read_row(**line, sample);
    if (!status.ok()) {
      bad_row_ = status.message();
      ++bad_rows_;
      return Row::kNoSample;
    }
  } else {
    sample.text.assign(**line);
  }
  sample.id = next_id_++;
  if (!valid_utf8(sample.text) || (sample.text2 && !valid_utf8(*sample.text2))) ++invalid_utf8_;
  return Row::kSample;
}

}  // namespace splitee::tools
