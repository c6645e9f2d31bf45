#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#ifdef SPLITEE_NETWORK_IMAGES
#include "runtime/image/pixels.h"
#endif
#include "tools/http/base64.h"
#include "tools/http/protocol.h"

namespace splitee::tools {

namespace {

using nlohmann::json;
using runtime::Input;

constexpr std::size_t kMaxDepth = 8;  // of the JSON
constexpr std::size_t kMostShown = 60;
constexpr std::size_t kMostToldOfJson = 300;  // an error may name a number of a million digits
constexpr std::ptrdiff_t kMostValues = 1 << 20;
constexpr std::size_t kMaxSide = 1u << 16;  // of a picture

Status wrong(std::string what) {
  return Status(Code::kInvalidArgument, std::move(what));
}

// Deep nesting costs a parser a hundred times its bytes.
bool deeper_than(std::string_view text, std::size_t most) {
  std::size_t depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') quoted = !quoted;
    if (quoted && c == '\\') ++i;
    if (quoted) continue;
    if ((c == '[' || c == '{') && ++depth > most) return true;
    if ((c == ']' || c == '}') && depth > 0) --depth;
  }
  return false;
}

// Throws nothing: what the library throws becomes a status.
Result<json> parse_json(std::string_view text) {
  if (deeper_than(text, kMaxDepth)) {
    return wrong(fmt::format("the JSON is nested deeper than {} levels", kMaxDepth));
  }
  // A parsed value takes many times its bytes.
  if (std::ranges::count(text, ',') > kMostValues) {
    return wrong(
        fmt::format("the JSON has more than {} values: send them as binary data", kMostValues));
  }
  // The library takes one for the end.
  if (text.find('\0') != text.npos) return wrong("not JSON: a NUL byte");
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    const std::string_view what = error.what();
    const std::size_t end = what.find("] ");
    const std::string_view told = end == what.npos ? what : what.substr(end + 2);
    return wrong("not JSON: " + std::string(told.substr(0, kMostToldOfJson)));
  }
}

Result<std::string> name_of(const json& object, const std::string& where) {
  if (!object.is_object()) return wrong(where + " is not an object");
  const auto name = object.find("name");
  if (name == object.end() || !name->is_string()) return wrong(where + " has no 'name'");
  return name->get<std::string>();
}

// An object's member that must be an array where it is there at all.
Result<const json*> list_of(const json& object, const char* name) {
  const auto list = object.find(name);
  if (list == object.end()) return static_cast<const json*>(nullptr);
  if (!list->is_array()) return wrong(fmt::format("'{}' is not an array", name));
  return &*list;
}

// Parameters of a request or a tensor, the shared memory of Triton refused.
class Parameters {
 public:
  static Result<Parameters> of(const json& object, const std::string& where) {
    Parameters parameters;
    const auto found = object.find("parameters");
    if (found == object.end()) return parameters;
    if (!found->is_object()) return wrong(where + ": 'parameters' is not an object");
    parameters.object_ = &*found;
    for (const char* name : {"shared_memory_region", "classification"}) {
      if (found->contains(name))
        return wrong(fmt::format("{}: '{}' is not supported", where, name));
    }
    return parameters;
  }
  Result<bool> flag(const char* name, bool otherwise) const {
    const json* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean())
      return wrong(fmt::format("parameter '{}' is not true or false", name));
    return value->get<bool>();
  }
  Result<std::optional<std::size_t>> number(const char* name) const {
    const json* value = find(name);
    if (value == nullptr) return std::optional<std::size_t>();
    if (!value->is_number_unsigned()) {
      return wrong(fmt::format("parameter '{}' is not a whole number from 0 on", name));
    }
    return std::optional(value->get<std::size_t>());
  }

 private:
  const json* find(const char* name) const {
    if (object_ == nullptr) return nullptr;
    const auto found = object_->find(name);
    return found == object_->end() ? nullptr : &*found;
  }
  const json* object_ = nullptr;
};

// Calls take() with every value of nested arrays, in order.
template <class Take>
Status flatten(const json& data, const Take& take) {
  if (!data.is_array()) return take(data);
  for (const json& part : data) {
    if (Status status = flatten(part, take); !status.ok()) return status;
  }
  return {};
}

// One input tensor: its form, its shape and its values.
class InputTensor {
 public:
  InputTensor(const InputInfo& info, bool files, const json& object)
      : info_(info), files_(files), where_("input '" + info.name + "'"), object_(object) {}

  // Takes its bytes off the front of `binary`, where it has any there.
  Status read(std::string_view& binary) {
    Status status = read_type();
    if (status.ok()) status = read_shape();
    if (!status.ok()) return status;
    const Result<Parameters> parameters = Parameters::of(object_, where_);
    if (!parameters.ok()) return parameters.status();
    const auto bytes = parameters->number("binary_data_size");
    if (!bytes.ok()) return bytes.status();
    return *bytes ? read_binary(**bytes, binary) : read_data();
  }

  std::size_t rows() const { return shape_.front(); }
  // Strings have no dimension but that of the rows.
  bool is_strings() const { return form_->sides.empty(); }
  // The length of a dimension, the first one that of the rows.
  std::size_t side(std::size_t dimension) const { return shape_[dimension]; }
  // Of what a row has: a string, or numbers, or bytes (of UINT8); the others are empty.
  const std::vector<std::string>& strings() const { return strings_; }
  std::span<const float> numbers(std::size_t row) const {
    const std::size_t each = numbers_.size() / rows();
    return std::span(numbers_).subspan(row * each, each);
  }
  std::string_view bytes(std::size_t row) const {
    const std::size_t each = bytes_.size() / rows();
    return std::string_view(bytes_).substr(row * each, each);
  }
  bool is_bytes() const { return form_->datatype == "UINT8"; }

 private:
  std::size_t wanted() const {
    std::size_t count = 1;
    for (const std::size_t side : shape_) count *= side;
    return count;
  }

  Status read_type() {
    const auto type = object_.find("datatype");
    if (type == object_.end() || !type->is_string()) return wrong(where_ + " has no 'datatype'");
    std::string known;
    for (const InputForm& form : info_.forms) {
      if (*type == form.datatype) form_ = &form;
      known += (known.empty() ? "" : " or ") + form.datatype;
    }
    if (form_ != nullptr) return {};
    return wrong(fmt::format("{} is of type {}, not {}", where_, known,
                             type->get<std::string>().substr(0, kMostShown)));
  }

  // As an error names it.
  std::string shape_wanted() const {
    if (is_strings()) return "[n, 1] or [n]";
    if (form_->sides.size() == 1) return fmt::format("[n, {}]", form_->sides.front());
    return fmt::format("[n, height, width, {}], sides from 1 to {}", form_->sides.back(), kMaxSide);
  }

  bool shape_fits(const json& shape) const {
    if (!shape.is_array() || !std::ranges::all_of(shape, &json::is_number_unsigned)) return false;
    const std::vector<std::size_t>& sides = form_->sides;
    if (is_strings()) return shape.size() == 1 || (shape.size() == 2 && shape[1] == 1);
    if (shape.size() != sides.size() + 1) return false;
    for (std::size_t i = 0; i < sides.size(); ++i) {
      const auto side = shape[i + 1].get<std::size_t>();
      if (sides[i] == 0 ? side < 1 || side > kMaxSide : side != sides[i]) return false;
    }
    return true;
  }

  Status read_shape() {
    const auto shape = object_.find("shape");
    if (shape == object_.end() || !shape_fits(*shape)) {
      return wrong(fmt::format("{} has not the shape {}", where_, shape_wanted()));
    }
    shape_ = shape->get<std::vector<std::size_t>>();
    if (rows() >= 1 && rows() <= kMaxRows) return {};
    return wrong(
        fmt::format("{} has {} rows; a request has from 1 to {}", where_, rows(), kMaxRows));
  }

  Status read_data() {
    const auto data = object_.find("data");
    if (data == object_.end() || !data->is_array()) return wrong(where_ + " has no 'data'");
    Status status = flatten(*data, [this](const json& value) { return take(value); });
    return status.ok() ? check_count() : status;
  }

  Status take(const json& value) {
    if (is_strings()) return take_string(value);
    if (is_bytes()) {
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() > UINT8_MAX) {
        return wrong(where_ + " has a value that is no whole number from 0 to 255");
      }
      bytes_ += static_cast<char>(value.get<std::uint8_t>());
      return {};
    }
    return value.is_number() ? take_number(value.get<double>())
                             : wrong(where_ + " has a value that is no number");
  }
  Status take_string(const json& value) {
    if (!value.is_string()) return wrong(where_ + " has a value that is no string");
    strings_.push_back(value.get<std::string>());
    if (!files_) return {};
    std::optional<std::string> file = decode_base64(strings_.back());
    if (!file) return wrong(where_ + " has a string that is not base64");
    strings_.back() = std::move(*file);
    return {};
  }
  Status take_number(double value) {
    // False for NaN, too.
    if (!(std::abs(value) <= std::numeric_limits<float>::max())) {
      return wrong(where_ + " has a value that is not a finite FP32");
    }
    if (files_ && (value < 0 || value > 1)) {
      return wrong(fmt::format("{} has the value {}: pixels are from 0 to 1", where_, value));
    }
    numbers_.push_back(static_cast<float>(value));
    return {};
  }

  Status check_count() const {
    const std::size_t count = strings_.size() + numbers_.size() + bytes_.size();
    if (count == wanted()) return {};
    return wrong(fmt::format("{} has {} values, but its shape says {}", where_, count, wanted()));
  }

  Status read_binary(std::size_t bytes, std::string_view& binary) {
    if (object_.contains("data")) return wrong(where_ + " has both 'data' and binary data");
    if (bytes > binary.size()) {
      return wrong(fmt::format("{} has {} bytes of binary data, but only {} are left in the body",
                               where_, bytes, binary.size()));
    }
    const std::string_view own = binary.substr(0, bytes);
    binary.remove_prefix(bytes);
    if (is_strings()) return read_strings(own);
    if (!is_bytes()) return read_floats(own);
    bytes_ = own;
    return check_count();
  }

  Status read_strings(std::string_view bytes) {
    while (!bytes.empty()) {
      std::uint32_t length = 0;
      if (bytes.size() < sizeof length) return wrong(where_ + ": its binary data ends in a length");
      std::memcpy(&length, bytes.data(), sizeof length);
      bytes.remove_prefix(sizeof length);
      if (length > bytes.size()) return wrong(where_ + ": its binary data ends in a string");
      strings_.emplace_back(bytes.substr(0, length));
      bytes.remove_prefix(length);
    }
    return check_count();
  }

  Status read_floats(std::string_view bytes) {
    if (bytes.size() % sizeof(float) != 0)
      return wrong(where_ + ": its binary data ends in a value");
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(float)) {
      float value;
      std::memcpy(&value, bytes.data() + at, sizeof value);
      if (Status status = take_number(value); !status.ok()) return status;
    }
    return check_count();
  }

  const InputInfo& info_;
  const bool files_;  // strings are files, in JSON as base64; numbers are pixels
  const std::string where_;
  const json& object_;
  const InputForm* form_ = nullptr;
  std::vector<std::size_t> shape_;
  std::vector<std::string> strings_;
  std::vector<float> numbers_;
  std::string bytes_;
};

template <class List>
std::string names_of(const List& list) {
  std::string names;
  for (const auto& tensor : list) names += (names.empty() ? "'" : ", '") + tensor.name + "'";
  return names;
}

// The tensors of a request, in the order of `infos`; those left out are null.
Result<std::vector<std::unique_ptr<InputTensor>>> read_inputs(const json& root,
                                                              std::span<const InputInfo> infos,
                                                              runtime::InputKind kind,
                                                              std::string_view& binary) {
  std::vector<std::unique_ptr<InputTensor>> tensors(infos.size());
  const Result<const json*> list = list_of(root, "inputs");
  if (!list.ok()) return list.status();
  if (*list == nullptr) return wrong("the request has no 'inputs'");
  for (const json& object : **list) {
    const Result<std::string> name = name_of(object, "an input");
    if (!name.ok()) return name.status();
    const auto info = std::ranges::find(infos, *name, &InputInfo::name);
    if (info == infos.end()) {
      return wrong(fmt::format("input '{}' is unknown; the model takes {}",
                               name->substr(0, kMostShown), names_of(infos)));
    }
    auto& tensor = tensors[static_cast<std::size_t>(info - infos.begin())];
    if (tensor != nullptr) return wrong("input '" + *name + "' is there twice");
    tensor = std::make_unique<InputTensor>(*info, kind == runtime::InputKind::kImage, object);
    if (Status status = tensor->read(binary); !status.ok()) return status;
  }
  if (tensors.front() == nullptr) return wrong("input '" + infos.front().name + "' is missing");
  if (!binary.empty()) {
    return wrong(fmt::format("{} bytes of the body belong to no input", binary.size()));
  }
  return tensors;
}

// A picture's pixels as a file.
std::string picture_of([[maybe_unused]] const InputTensor& tensor, std::size_t row) {
  std::string rgb(tensor.bytes(row));
  for (const float value : tensor.numbers(row)) {
    rgb += static_cast<char>(static_cast<std::uint8_t>(std::lround(value * UINT8_MAX)));
  }
#ifdef SPLITEE_NETWORK_IMAGES
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(rgb.data());
  return runtime::ppm_of(tensor.side(2), tensor.side(1), {bytes, rgb.size()});
#else
  return rgb;
#endif
}

std::string bytes_of_row(const InputTensor& tensor, std::size_t row, runtime::InputKind kind) {
  if (tensor.is_strings()) return tensor.strings()[row];
  if (kind == runtime::InputKind::kImage) return picture_of(tensor, row);
  const std::span<const float> numbers = tensor.numbers(row);
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size_bytes()};
}

// The rows as the network takes them.
Result<std::vector<Input>> rows_of(std::span<const std::unique_ptr<InputTensor>> tensors,
                                   runtime::InputKind kind) {
  const InputTensor& first = *tensors.front();
  std::vector<Input> rows(first.rows());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].kind = kind;
    rows[i].bytes = bytes_of_row(first, i, kind);
  }
  if (tensors.size() < 2 || tensors[1] == nullptr) return rows;
  if (tensors[1]->rows() != rows.size()) {
    return wrong(fmt::format("input 'text2' has {} rows, but 'text' has {}", tensors[1]->rows(),
                             rows.size()));
  }
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i].second = tensors[1]->strings()[i];
  return rows;
}

Result<std::vector<WantedOutput>> wanted_outputs(const json& root,
                                                 std::span<const OutputInfo> infos, bool binary) {
  std::vector<WantedOutput> wanted;
  const Result<const json*> list = list_of(root, "outputs");
  if (!list.ok()) return list.status();
  if (*list == nullptr || (*list)->empty()) {
    for (const OutputInfo& info : infos) wanted.push_back({info.kind, binary});
    return wanted;
  }
  for (const json& object : **list) {
    const Result<std::string> name = name_of(object, "an output");
    if (!name.ok()) return name.status();
    const auto info =
        std::ranges::find_if(infos, [&](const OutputInfo& i) { return i.tensor.name == *name; });
    if (info == infos.end()) {
      return wrong(fmt::format("output '{}' is unknown", name->substr(0, kMostShown)));
    }
    if (std::ranges::find(wanted, info->kind, &WantedOutput::kind) != wanted.end()) {
      return wrong("output '" + *name + "' is there twice");
    }
    const Result<Parameters> parameters = Parameters::of(object, "output '" + *name + "'");
    if (!parameters.ok()) return parameters.status();
    const Result<bool> own = parameters->flag("binary_data", binary);
    if (!own.ok()) return own.status();
    wanted.push_back({info->kind, *own});
  }
  return wanted;
}

// Of the request's parameter, a layer: the exit that sits there.
Result<std::size_t> wanted_exit(const Parameters& parameters, std::span<const std::size_t> layers,
                                Role role) {
  const auto layer = parameters.number("exit_layer");
  if (!layer.ok()) return layer.status();
  if (!*layer) return layers.size() - 1;
  if (role == Role::kEdge) return wrong("parameter 'exit_layer': on an edge the policy chooses");
  const auto found = std::ranges::find(layers, **layer);
  if (found == layers.end()) {
    return wrong(fmt::format("parameter 'exit_layer': layer {} has no exit", **layer));
  }
  return static_cast<std::size_t>(found - layers.begin());
}

}  // namespace

Result<InferRequest> InferProtocol::parse(std::string_view body,
                                          std::optional<std::size_t> json_bytes) const {
  if (json_bytes.value_or(0) > body.size()) {
    return wrong(fmt::format("{}: {} bytes, but the body has {}", kJsonLengthHeader, *json_bytes,
                             body.size()));
  }
  std::string_view binary = body.substr(json_bytes.value_or(body.size()));
  const Result<json> root = parse_json(body.substr(0, body.size() - binary.size()));
  if (!root.ok()) return root.status();
  if (!root->is_object()) return wrong("the request is not a JSON object");
  InferRequest request;
  if (const auto id = root->find("id"); id != root->end()) {
    if (!id->is_string()) return wrong("'id' is not a string");
    request.id = id->get<std::string>();
  }
  const auto tensors = read_inputs(*root, inputs_, kind_, binary);
  if (!tensors.ok()) return tensors.status();
  Result<std::vector<Input>> rows = rows_of(*tensors, kind_);
  if (!rows.ok()) return rows.status();
  request.rows = std::move(*rows);
  const Result<Parameters> parameters = Parameters::of(*root, "the request");
  if (!parameters.ok()) return parameters.status();
  const Result<bool> all_binary = parameters->flag("binary_data_output", false);
  if (!all_binary.ok()) return all_binary.status();
  auto outputs = wanted_outputs(*root, outputs_, *all_binary);
  if (!outputs.ok()) return outputs.status();
  request.outputs = std::move(*outputs);
  const Result<std::size_t> exit = wanted_exit(*parameters, exit_layers_, role_);
  if (!exit.ok()) return exit.status();
  request.exit = *exit;
  return request;
}

}  // namespace splitee::tools
