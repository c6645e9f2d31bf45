// Requests of the Open Inference Protocol and paths: the first byte chooses the network and whether
// a length of the JSON is given, the second one how much of the body that is.
#include <cmath>
#include <cstring>

#include "tests/fuzz/fuzz.h"
#include "tools/http/protocol.h"
#include "tools/http/routes.h"

using namespace splitee;
using namespace splitee::tools;
using splitee::fuzz::require;

namespace {

runtime::NetworkInfo info_of(bool numbers, bool pairs, bool images) {
  runtime::NetworkInfo info;
  info.input = numbers  ? runtime::InputKind::kNumbers
               : images ? runtime::InputKind::kImage
                        : runtime::InputKind::kText;
  info.labels = {"negative", "positive \xff"};
  info.numbers = 2;
  info.pairs = pairs;
  info.exit_layers = {1, 3};
  return info;
}

std::string json_request(const std::string& tensors, const std::string& more = "") {
  return "{\"inputs\":[" + tensors + "]" + more + "}";
}

// A request with binary data: the JSON is as long as the second byte says.
std::string binary_request(char kind, const std::string& json, const std::string& data) {
  return std::string{static_cast<char>(kind | 2), static_cast<char>(json.size())} + json + data;
}

constexpr std::size_t kPpmHeader = 32;  // at most
const std::string kText = R"({"name":"text","shape":[2],"datatype":"BYTES","data":["a","b"]})";

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  using namespace std::string_literals;
  const std::string second =
      R"({"name":"text2","shape":[2],"datatype":"BYTES","data":["\u00e9",""]})";
  const std::string numbers =
      R"({"name":"numbers","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[-3e2,0]]})";
  const std::string bytes =
      R"({"name":"text","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":9}})";
  const std::string floats =
      R"({"name":"numbers","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}})";
  const std::string image =
      R"({"name":"image","shape":[1],"datatype":"BYTES","data":["UDYgMSAxIDI1NQphYmM="]})";
  const std::string pixels =
      R"({"name":"image","shape":[2,1,1,3],"datatype":"UINT8","data":[[0,1,255],[2,3,4]]})";
  const std::string shares =
      R"({"name":"image","shape":[1,1,1,3],"datatype":"FP32","data":[0,0.5,1]})";
  const std::string bytes_of_pixels =
      R"({"name":"image","shape":[1,1,1,3],"datatype":"UINT8","parameters":{"binary_data_size":3}})";
  return {
      "",
      "\20\0"s + json_request(image),
      "\20\0"s + json_request(pixels),
      "\20\0"s + json_request(shares),
      binary_request(16, json_request(bytes_of_pixels), "abc"s),
      "\0\0"s + json_request(kText),
      "\4\0"s + json_request(kText + "," + second, R"(,"id":"7","parameters":{"exit_layer":1})"),
      "\0\0"s +
          json_request(kText, R"(,"outputs":[{"name":"label","parameters":{"binary_data":true}}])"),
      "\1\0"s + json_request(numbers, R"(,"parameters":{"binary_data_output":true})"),
      binary_request(0, json_request(bytes), "\1\0\0\0a\0\0\0\0"s),
      binary_request(1, json_request(floats), "\0\0\x80\x3f\0\0\0\x40"s),
      "\0\0"s + std::string(50, '['),
      "\0\0/v2/models/m/versions/1/infer"s};
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const bool numbers = (data[0] & 1) != 0;
  const runtime::NetworkInfo info = info_of(numbers, (data[0] & 4) != 0, (data[0] & 16) != 0);
  const InferProtocol protocol(info, "m", (data[0] & 8) != 0 ? Role::kEdge : Role::kServer);
  const std::string_view body = fuzz::text_of(data + 2, size - 2);
  (void)page_at(body, "m");
  std::optional<std::size_t> json_bytes;
  if ((data[0] & 2) != 0) json_bytes = data[1];
  const Result<InferRequest> request = protocol.parse(body, json_bytes);
  if (!request.ok()) {
    require(request.status().code() == Code::kInvalidArgument);
    require(!request.status().message().empty());
    return 0;
  }
  require(!request->rows.empty() && request->rows.size() <= kMaxRows);
  require(!request->outputs.empty() && request->exit < info.exits());
  for (const runtime::Input& row : request->rows) {
    require(row.kind == info.input && row.bytes.size() <= size + kPpmHeader);
    require(!row.second || info.pairs);
    for (std::size_t at = 0; numbers && at < row.bytes.size(); at += sizeof(float)) {
      float value;
      std::memcpy(&value, row.bytes.data() + at, sizeof value);
      require(std::isfinite(value));
    }
    require(!numbers || row.bytes.size() == 2 * sizeof(float));
  }
  const std::vector<RowAnswer> answers(request->rows.size(), {.class_index = 1,
                                                              .confidence = 0.75F,
                                                              .exit_layer = 3,
                                                              .probabilities = {0.25F, 0.75F},
                                                              .route = "exit",
                                                              .exit_confidences = {-1.0F, 0.75F}});
  const HttpResponse response = protocol.encode(*request, answers);
  require(response.status == 200 && response.body.starts_with("{\"model_name\":\"m\""));
  return 0;
}
