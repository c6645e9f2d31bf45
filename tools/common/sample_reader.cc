#include "tools/common/sample_reader.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/utf8.h"

namespace splitee::tools {
namespace {

using runtime::InputKind;

constexpr const char* kTooLong = "longer than 64 MiB";

bool is_column_name(std::string_view field) {
  constexpr std::size_t kMostBytes = 32;
  const auto in_name = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; };
  return !field.empty() && field.size() <= kMostBytes && std::ranges::all_of(field, in_name);
}

// Whether a line names columns, a text or a label among them.
bool is_header(std::string_view line, char delimiter) {
  std::vector<std::string_view> fields;
  split_fields(line, delimiter, fields);
  const auto known = [](std::string_view field) { return field == "text" || field == "label"; };
  return fields.size() > 1 && std::ranges::all_of(fields, is_column_name) &&
         std::ranges::any_of(fields, known);
}

// What the first bytes of an input say that they are, where that is no text in UTF-8.
std::optional<std::string_view> other_than_text(std::string_view line) {
  using namespace std::string_view_literals;
  static constexpr std::pair<std::string_view, std::string_view> kMarks[] = {
      {"\xff\xfe"sv, "UTF-16 or UTF-32"},
      {"\xfe\xff"sv, "UTF-16"},
      {"\x00\x00\xfe\xff"sv, "UTF-32"},
      {"\x1f\x8b"sv, "compressed (gzip)"},
      {"\x28\xb5\x2f\xfd"sv, "compressed (zstd)"},
      {"\xfd\x37zXZ"sv, "compressed (xz)"},
      {"PK\x03\x04"sv, "a zip archive, as spreadsheets are"}};
  for (const auto& [mark, name] : kMarks) {
    if (line.starts_with(mark)) return name;
  }
  return std::nullopt;
}

Status check_first_line(std::string_view line) {
  const std::optional<std::string_view> other = other_than_text(line);
  if (!other) return {};
  return Status(Code::kCorrupt, fmt::format("is {}, not text in UTF-8", *other));
}

// What a format is for, and the formats of a kind, the first of them what kOfModel means.
InputKind kind_of(InputFormat format) {
  switch (format) {
    case InputFormat::kNumbers:
    case InputFormat::kFloats:
      return InputKind::kNumbers;
    case InputFormat::kImages:
    case InputFormat::kFrames:
      return InputKind::kImage;
    default:
      return InputKind::kText;
  }
}
struct Formats {
  InputFormat first;
  const char* words;
};
Formats formats_of(InputKind kind) {
  switch (kind) {
    case InputKind::kNumbers:
      return {InputFormat::kNumbers, "as numbers or float32"};
    case InputKind::kImage:
      return {InputFormat::kImages, "as images, or as frames (--frame)"};
    case InputKind::kText:
      break;
  }
  return {InputFormat::kLines, "as text or tsv"};
}

// The samples of a folder, where there are any.
[[maybe_unused]] bool reads_folders(InputFormat format, const runtime::NetworkInfo& info) {
  if (format == InputFormat::kOfModel) format = formats_of(info.input).first;
  return format == InputFormat::kImages && info.input == InputKind::kImage;
}

Result<LineReader> lines_of_folder(const LineReader& folder, [[maybe_unused]] InputFormat format,
                                   [[maybe_unused]] const runtime::NetworkInfo& info) {
#ifdef SPLITEE_NETWORK_IMAGES
  if (reads_folders(format, info)) {
    const std::string name = folder.name() + (folder.name().ends_with('/') ? "" : "/");
    Result<std::string> table = table_of_folder(name, info);
    if (!table.ok()) return table.status();
    return LineReader::of_text(name, std::move(*table));
  }
#endif
  return Status(Code::kIo, folder.name() + ": is a folder");
}

// A picture given for the list of pictures is a list of one.
LineReader list_of_picture(LineReader lines, [[maybe_unused]] InputFormat format,
                           [[maybe_unused]] const runtime::NetworkInfo& info) {
#ifdef SPLITEE_NETWORK_IMAGES
  const std::string path = lines.name();
  if (reads_folders(format, info) && names_picture(path)) {
    return LineReader::of_text(path, path.substr(path.rfind('/') + 1) + "\n");
  }
#endif
  return lines;
}

// Relative paths in an input count from there.
[[maybe_unused]] std::string folder_of(const LineReader& lines) {
  const std::size_t slash = lines.name().rfind('/');
  return slash == std::string::npos ? std::string() : lines.name().substr(0, slash + 1);
}

Result<std::unique_ptr<RowParser>> make_parser(InputFormat format,
                                               [[maybe_unused]] const LineReader& lines,
                                               const runtime::NetworkInfo& info,
                                               [[maybe_unused]] FrameSize frame) {
  const Formats own = formats_of(info.input);
  if (format == InputFormat::kOfModel) format = own.first;
  if (kind_of(format) != info.input) {
    return Status(Code::kInvalidArgument, fmt::format("--input-format: the model takes {}, {}",
                                                      runtime::to_string(info.input), own.words));
  }
  switch (format) {
    case InputFormat::kTsv:
      return make_text_columns(info);
    case InputFormat::kNumbers:
      return make_number_columns(info);
    case InputFormat::kFloats:
      return make_float_frames(info);
#ifdef SPLITEE_NETWORK_IMAGES
    case InputFormat::kImages:
      return make_image_files(info, folder_of(lines));
    case InputFormat::kFrames:
      return make_raw_frames(frame);
#endif
    default:
      return make_text_lines();
  }
}

}  // namespace

std::string input_text(const runtime::Input& input) {
  if (input.kind == InputKind::kImage) return fmt::format("({} bytes)", input.bytes.size());
  if (input.kind != InputKind::kNumbers) return input.bytes;
  std::string text;
  for (std::size_t at = 0; at + sizeof(float) <= input.bytes.size(); at += sizeof(float)) {
    float number;
    std::memcpy(&number, input.bytes.data() + at, sizeof number);
    text += fmt::format("{}{}", text.empty() ? "" : ", ", number);
  }
  return text;
}

Result<SampleReader> SampleReader::open(LineReader lines, InputFormat format,
                                        const runtime::NetworkInfo& info, bool feedback,
                                        FrameSize frame) {
  if (lines.is_folder()) {
    Result<LineReader> listed = lines_of_folder(lines, format, info);
    if (!listed.ok()) return listed.status();
    return open(std::move(*listed), format, info, feedback, frame);
  }
  LineReader rows = list_of_picture(std::move(lines), format, info);
  Result<std::unique_ptr<RowParser>> parser = make_parser(format, rows, info, frame);
  if (!parser.ok()) return parser.status();
  if (feedback) {
    if (Status wanted = (*parser)->want_feedback(); !wanted.ok()) return wanted;
  }
  SampleReader reader(std::move(rows), std::move(*parser), info.input);
  reader.looks_for_header_ = format == InputFormat::kOfModel && info.input == InputKind::kText;
  Status status;
  if (!reader.parser_->wanted_column().empty()) {
    status = reader.read_header();
  } else if (info.input == InputKind::kText && reader.lines_.total_bytes() > 0) {
    status = reader.hold_first_line();
  }
  return status.ok() ? Result<SampleReader>(std::move(reader)) : status;
}

Status SampleReader::hold_first_line() {
  Result<std::optional<std::string_view>> line = next_line();
  if (!line.ok()) return line.status();
  if (*line) held_line_ = std::string(**line);
  return {};
}

Result<std::optional<std::string_view>> SampleReader::next_line() {
  if (held_line_) {
    last_line_ = std::exchange(held_line_, std::nullopt);
    return std::optional<std::string_view>(*last_line_);
  }
  Result<std::optional<std::string_view>> line = lines_.next();
  if (!line.ok() || !*line || lines_.line_number() != 1) return line;
  if (Status text = check_first_line(**line); !text.ok()) return placed(text);
  if (!looks_for_header_) return line;
  if (is_header(**line, '\t')) {
    return placed({Code::kCorrupt,
                   "names columns: give --input-format tsv to read a table, or --input-format text "
                   "to take every line for a text"});
  }
  if (is_header(**line, ',')) {
    return placed({Code::kCorrupt,
                   "names columns with commas between them: texts are read from tables with tabs "
                   "(--input-format tsv); give --input-format text to take every line for a text"});
  }
  return line;
}

Status SampleReader::placed(const Status& status) const {
  return Status(status.code(), fmt::format("{}: {} {}: {}", lines_.name(),
                                           parser_->row_bytes() > 0 ? "frame" : "line",
                                           lines_.line_number(), status.message()));
}

Status SampleReader::read_header() {
  Result<std::optional<std::string_view>> line = lines_.next();
  if (!line.ok()) return line.status();
  if (!*line) {
    if (lines_.stopped()) return {};
    return Status(Code::kNotFound, fmt::format("{}: no header line with a column '{}'",
                                               lines_.name(), parser_->wanted_column()));
  }
  Status status;
  if (lines_.too_long()) {
    status = Status(Code::kCorrupt, kTooLong);
  } else if (Status text = check_first_line(**line); !text.ok()) {
    status = std::move(text);
  } else if ((*line)->find('\r') != std::string_view::npos) {
    status =
        Status(Code::kCorrupt, "a carriage return within the header: lines end with LF or CRLF");
  } else {
    status = parser_->read_header(**line);
  }
  return status.ok() ? status : placed(status);
}

void SampleReader::refuse(const Status& status) {
  bad_row_ = placed(status).message();
  ++bad_rows_;
  --next_id_;
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
  const std::size_t row_bytes = parser_->row_bytes();
  Result<std::optional<std::string_view>> line =
      row_bytes > 0 ? lines_.next_block(row_bytes) : next_line();
  if (!line.ok()) return line.status();
  if (!*line) return Row::kEnd;
  if (lines_.too_long()) {
    bad_row_ = placed({Code::kCorrupt, kTooLong}).message();
    ++bad_rows_;
    return Row::kNoSample;
  }
  sample.truth.reset();
  sample.input.kind = kind_;
  sample.input.second.reset();
  sample.input.name.clear();
  const Result<bool> is_sample = parser_->parse(**line, sample);
  if (!is_sample.ok()) {
    bad_row_ = placed(is_sample.status()).message();
    ++bad_rows_;
    return Row::kNoSample;
  }
  if (!*is_sample) return Row::kNoSample;
  sample.id = next_id_++;
  const runtime::Input& input = sample.input;
  if (kind_ == InputKind::kText &&
      (!valid_utf8(input.bytes) || (input.second && !valid_utf8(*input.second)))) {
    ++invalid_utf8_;
  }
  return Row::kSample;
}

}  // namespace splitee::tools
