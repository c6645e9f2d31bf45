// The Open Inference Protocol, version 2, over JSON, with the extension for binary tensors
// (https://github.com/kserve/open-inference-protocol, Triton's extension_binary_data), for one
// network: what a request holds, and its answer as bytes. No sockets here.
//
//   inputs    text     BYTES (n) or (n, 1)     texts, for a network on texts
//             text2    BYTES, as text          second texts of pairs; may be left out
//             numbers  FP32 (n, columns)       for a network on numbers
//             image    for a network on images: BYTES (n) or (n, 1), files (PNG, JPEG, PGM, PPM),
//                      in JSON as base64; or RGB pixels, UINT8 (n, height, width, 3), or FP32 of
//                      that shape from 0 to 1, rounded to 8 bits
//   outputs   label BYTES (n), confidence FP32 (n), exit_layer INT32 (n), probabilities FP32
//             (n, classes); of a network with one value: value FP32 (n) in place of the first two
//             and the last; of labels that do not exclude each other: no label and no confidence
//   of an edge also
//             route BYTES (n), cost FP32 (n) in lambda, exit_confidences FP32 (n, exits) with -1
//             where an exit was not looked at, latency_us INT64 (n), bytes_sent INT64 (n)
//   parameters of a request
//             binary_data_output bool; exit_layer, of a server only: the exit that is to answer
//
// Thread rule: immutable. Errors of parse(): kInvalidArgument, naming the field.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/network.h"
#include "tools/http/answer.h"
#include "tools/http/exchange.h"

namespace splitee::tools {

inline constexpr const char* kJsonLengthHeader = "Inference-Header-Content-Length";
inline constexpr const char* kModelVersion = "1";
inline constexpr std::size_t kMaxRows = 1024;  // of a request

enum class Role { kEdge, kServer };

enum class OutputKind {
  kLabel,
  kConfidence,
  kExitLayer,
  kProbabilities,
  kValue,
  kRoute,
  kCost,
  kExitConfidences,
  kLatencyUs,
  kBytesSent
};

struct WantedOutput {
  OutputKind kind;
  bool binary = false;
};

struct InferRequest {
  std::string id;
  std::vector<runtime::Input> rows;
  std::vector<WantedOutput> outputs;
  std::size_t exit = 0;  // 0-based, the last unless asked for another
};

// Name of a model over HTTP: its file's name without the folder and what follows the last dot.
std::string model_name_of(const runtime::Network& network);

// As the metadata names it. Inputs and outputs begin with a dimension for the rows.
struct TensorInfo {
  std::string name, datatype;
  std::size_t columns = 0;  // 0: no second dimension
};
// A way in which an input may come.
struct InputForm {
  std::string datatype;
  std::vector<std::size_t> sides = {};  // of the dimensions after that of the rows; 0: any
};
struct InputInfo {
  std::string name;
  std::vector<InputForm> forms;  // the metadata names the first one before the others
};
struct OutputInfo {
  TensorInfo tensor;
  OutputKind kind;
};

class InferProtocol {
 public:
  // Keeps a copy of what it needs of `info`.
  InferProtocol(const runtime::NetworkInfo& info, std::string model_name, Role role);

  // `json_bytes`: what the header kJsonLengthHeader says; without it all of the body is JSON.
  Result<InferRequest> parse(std::string_view body, std::optional<std::size_t> json_bytes) const;
  // An answer per row.
  HttpResponse encode(const InferRequest& request, std::span<const RowAnswer> answers) const;

  const std::string& model_name() const { return model_name_; }
  // Whether rows are whole files.
  bool takes_files() const { return kind_ == runtime::InputKind::kImage; }
  // What GET /v2/models/NAME says.
  std::string metadata() const;

 private:
  std::string model_name_;
  Role role_;
  runtime::InputKind kind_;
  std::vector<std::string> labels_;
  std::vector<std::size_t> exit_layers_;
  std::vector<InputInfo> inputs_;  // the first one is required
  std::vector<OutputInfo> outputs_;
};

}  // namespace splitee::tools
