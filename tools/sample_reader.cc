#include "tools/sample_reader.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

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

// Bytes of the well-formed sequence at the start of `text` (not empty); 0 if there is none.
std::size_t sequence_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return 0;
  const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < size; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  }
  return size;
}

}  // namespace

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t bytes = sequence_bytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
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
  if (!*line)
    return Status(Code::kNotFound, lines_.name() + ": no header line with a column 'text'");
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
  std::uint32_t number = 0;
  const char* end = field.data() + field.size();
  const auto [stop, problem] = std::from_chars(field.data(), end, number);
  if (problem == std::errc() && stop == end && number < labels_.size())
    return std::optional(number);
  const auto found = std::find(labels_.begin(), labels_.end(), field);
  if (found != labels_.end()) {
    return std::optional(static_cast<std::uint32_t>(found - labels_.begin()));
  }
  std::string names;
  for (const std::string& label : labels_) names += (names.empty() ? "" : ", ") + label;
  return error(
      fmt::format("column 'label': '{}' is neither a class number from 0 to {} nor one of {}",
                  field.substr(0, 40), labels_.size() - 1, names));
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
  Result<std::optional<std::string_view>> line = lines_.next();
  if (!line.ok()) return line.status();
  if (!*line) return false;
  sample.truth.reset();
  sample.text2.reset();
  if (tsv_) {
    const Status status = read_row(**line, sample);
    if (!status.ok()) return status;
  } else {
    sample.text.assign(**line);
  }
  sample.id = next_id_++;
  if (!valid_utf8(sample.text) || (sample.text2 && !valid_utf8(*sample.text2))) ++invalid_utf8_;
  return true;
}

}  // namespace splitee::tools
