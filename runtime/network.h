// What the rest of the program needs of a multi-exit network, whatever it is made of: its sizes,
// its inputs, and engines that run it layer by layer, exit by exit, from any layer on. A kind of
// network is a folder that implements these classes, and a row in the table of runtime/loader.
//
// The two halves of split computing are the same calls on the edge (begin, run_to, evaluate_exit,
// activation) and on the server (resume, run_to, evaluate_exit).
//
// Layers are 1-based everywhere: layer 0 is what begin() makes of the input, an exit reads the
// layer it sits on. An input has a length in units that its network names (tokens of a text, 1 for
// a row of numbers, the KiB of a picture's file); an activation is (rows, cols) row major, rows
// depending on the length or not.
//
// Virtual is what is listed here; nothing virtual is called inside a layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "kernels/kernels.h"

namespace splitee::runtime {

// What an input is; the numbers are also the wire's (transport/wire/wire.h).
enum class InputKind : std::uint8_t { kText = 1, kNumbers = 2, kImage = 3 };
std::string_view to_string(InputKind kind);  // "text", "numbers", "images"

// A sample as a reader hands it over: bytes of a kind.
struct Input {
  InputKind kind = InputKind::kText;
  // Text: UTF-8. Numbers: float32, little-endian, in the order of NetworkInfo::columns. Images: a
  // file (runtime/image/image.h).
  std::string bytes;
  std::optional<std::string> second;  // of a pair of texts
  std::size_t max_length = 0;         // a text is cut to it; 0: to what the network takes
  std::string name;                   // where the bytes are a file's: its path, for messages
};

// An input as a network takes it: what begin() starts from, and what is sent where the input is
// sent. The form of the bytes is the network's.
struct PreparedView {
  std::size_t length = 0;  // in units
  std::span<const std::byte> bytes;
  std::span<const float> decoded = {};  // what Network::decode() made of the bytes; empty: nothing
};
struct Prepared {
  std::size_t length = 0;
  std::vector<std::byte> bytes;
  bool full = false;  // as long as the network takes: something may have been cut off
  std::vector<float> decoded = {};
  PreparedView view() const { return {length, bytes, decoded}; }
};

// Of an activation, or of any matrix. Images: rows are the pixels, line by line; cols the channels.
struct Shape {
  std::size_t rows = 0, cols = 0;
  std::size_t size() const { return rows * cols; }
  bool operator==(const Shape&) const = default;
};

// Of a layer and its output.
struct LayerSizes {
  std::size_t rows = 0;  // 0: as many as the input has units
  std::size_t cols = 0;
  // Multiplications and additions: fixed, per unit of the input, per pair of units.
  double operations = 0, unit_operations = 0, pair_operations = 0;
  std::size_t weight_bytes = 0;  // as they lie in memory once they are loaded
};

// Operations of the layers after `layer` for an input of `length`; `sizes` is [0 .. layers].
double operations_after(std::span<const LayerSizes> sizes, std::size_t layer, std::size_t length);

// What an exit makes of its classifier's results, over its temperature.
enum class Output {
  kClasses,  // softmax: probabilities of the classes
  kLabels,   // sigmoid: a probability of each label on its own
  kValue     // one number, as it is
};

// What is known of a network once its file was checked.
struct NetworkInfo {
  std::string architecture;  // general.architecture of the file
  InputKind input = InputKind::kText;
  std::string unit = "values";           // of an input's length, for people
  std::size_t max_length = 1;            // of an input, in units
  std::size_t input_bytes = 0;           // of a Prepared: fixed
  std::size_t unit_input_bytes = 0;      // and per unit
  std::vector<std::string> columns;      // names of the numbers of a row, where the file has them
  std::size_t numbers = 0;               // of a row
  std::vector<LayerSizes> sizes;         // [0 .. layers()]
  std::vector<std::size_t> exit_layers;  // ascending, 1-based, the last one is layers()
  std::vector<float> temperatures;       // logits of an exit are divided by it (Guo et al. 2017)
  std::vector<std::string> labels;       // names of the classes
  Output output = Output::kClasses;      // anything else has no confidence
  bool pairs = true;                     // takes pairs of texts, where it takes texts
  double alpha = 0;                      // suggested exit threshold; 0 where the file has none
  std::vector<double> exit_alphas;       // thresholds per exit; empty where the file has none
  std::vector<float> held_out;     // (rows, exits), empty where the file has none: confidences
                                   // on held-out data, negative where the class differs from
                                   // the last exit's
  std::size_t held_out_kinds = 1;  // of samples, that these rows are a mixture of
  // Content hash of the file that this one was made of by writing other rows; 0: of none.
  std::uint64_t answers_as = 0;
  std::string dtype;  // of the first layer's weights: f32, f16, bf16 or i8
  // More about this kind of network, for people.
  std::vector<std::pair<std::string, std::size_t>> more_sizes;
  std::vector<std::pair<std::string, double>> more_numbers;

  std::size_t layers() const { return sizes.size() - 1; }
  std::size_t exits() const { return exit_layers.size(); }
  std::size_t classes() const { return labels.size(); }
  // Of the output of `layer` (0 .. layers()) for an input of this length.
  Shape shape(std::size_t layer, std::size_t length) const {
    return {sizes[layer].rows == 0 ? length : sizes[layer].rows, sizes[layer].cols};
  }
  // Whether a longer input is more work: not where all come to one size (images).
  bool work_grows() const {
    for (const LayerSizes& layer : sizes) {
      if (layer.unit_operations > 0 || layer.pair_operations > 0) return true;
    }
    return false;
  }
  // Of a Prepared of this length.
  std::size_t bytes_of_input(std::size_t length) const {
    return input_bytes + unit_input_bytes * length;
  }
};

// Whether an activation is one of a layer's outputs (0: the input's), of a network whose layers
// have the same rows for every input: its shape, and that all of it is finite. kInvalidArgument.
Status check_activation(const NetworkInfo& info, std::size_t layer, std::size_t rows,
                        std::span<const float> activation);

class Network;

// Runs one sample at a time. Only what is asked for is computed: run_to() may leave the layer
// reached to evaluate_exit(), which computes as much of it as the exit reads, and that to
// finish_layer(), run_to() or activation(). Who offloads can spare the layer reached:
// ready_activation() is what another engine starts from. Who knows that the sample goes on anyway
// calls finish_layer() before evaluate_exit(). All of these give the same bits.
//
// Thread rule: one Engine per thread; the Network behind it is shared. Ownership: the workspace is
// allocated once, for the longest sample; views returned are valid until the next call that is not
// const. Determinism: with one kernel target, results are bit-identical for every number of threads
// and every way of splitting a sample with activation() and resume().
class Engine {
 public:
  virtual ~Engine() = default;

  // Starts a sample (layer 0). Fails where the network does not take the input.
  virtual Status begin(PreparedView input) = 0;

  // Starts a sample from the activation of `layer` (0 .. layers), (rows, cols) row major. Fails if
  // the layer or the shape does not fit the network, or a value is not finite.
  virtual Status resume(std::size_t layer, std::size_t rows, std::span<const float> activation) = 0;

  // Goes on to `layer` (>= the layer reached, <= layers; our bug otherwise). Fails where the
  // weights of a layer cannot be read any more; the sample stays where it was then. Who will not
  // evaluate an exit of `layer` says so, and the exit's weights are not read for it.
  virtual Status run_to(std::size_t layer, bool exit_wanted = true) = 0;

  // Probabilities (classes), or what NetworkInfo::output says, of exit `exit` (0-based into
  // exit_layers), whose layer must be the layer reached, and not reached as one without its exit
  // (our bug otherwise). NaN where finite but huge weights or activations overflowed.
  virtual std::span<const float> evaluate_exit(std::size_t exit) = 0;

  // Computes the layer reached.
  virtual void finish_layer() = 0;
  // Output of the layer reached, (rows, cols) row major, contiguous; finishes it.
  virtual std::span<const float> activation() = 0;

  // The last layer whose output is there, and that output: layer() or the one before. At 0, the
  // input is worth the same.
  virtual std::size_t ready_layer() const = 0;
  virtual std::span<const float> ready_activation() const = 0;

  virtual std::size_t layer() const = 0;
};

// A sample of a batch: the activation of `layer`, or at layer 0 the input.
struct BatchSample {
  std::size_t layer = 0;
  PreparedView input = {};
  std::size_t rows = 0;
  std::span<const float> activation = {};  // (rows, cols) row major
};

// The numbers of the samples, to `order`: those that start at an earlier layer first, else as
// given.
void order_by_layer(std::span<const BatchSample> samples, std::vector<std::size_t>& order);

// Runs several samples to the last exit together, so that a weight is read once for many of them.
// Samples may start at different layers; each joins in at its own.
// Thread rule, ownership: as Engine's; what is not used of the workspace costs nothing.
// Determinism: a sample's probabilities are bit-identical to those that an Engine gives it alone,
// whatever the samples beside it and the number of threads.
class BatchEngine {
 public:
  virtual ~BatchEngine() = default;

  // Whether run() takes this sample; the errors of Engine::begin() and Engine::resume().
  virtual Status check(const BatchSample& sample) const = 0;

  // Runs at most as many samples as the engine was made for, each of which check() has accepted
  // (our bug otherwise). Nothing of them is kept. Fails where weights cannot be read any more.
  virtual Status run(std::span<const BatchSample> samples) = 0;

  // Probabilities (classes) of the last exit for samples[index] of the last run() that worked;
  // valid until the next.
  virtual std::span<const float> probabilities(std::size_t index) const = 0;
};

inline constexpr std::size_t kAllLayers = SIZE_MAX;

struct ModelOptions {
  // Everything in fp32, whatever the type in the file: what the file's values give without the
  // rounding of bf16 and int8 arithmetic. Four bytes a weight in memory.
  bool exact = false;
  // Layers that every sample needs, with the exit behind them: read while the file is checked, so
  // once instead of twice. kAllLayers, or more than there are: all.
  std::size_t preload = 0;
  // The whole file is checked at once, also where it has sums of its blocks, by which parts are
  // otherwise checked when they are first read.
  bool check_whole = false;
};

// A network as read from a model file, immutable but for what is read later.
// Thread rule: share it between threads and engines. Ownership: always in a shared_ptr, which
// engines hold on to.
class Network {
 public:
  virtual ~Network() = default;
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  const NetworkInfo& info() const { return info_; }
  // Content hash of the file (key splitee.content_hash); what both ends of a link compare.
  std::uint64_t hash() const { return hash_; }
  // The same for all files that differ in their held-out rows alone, and so answer alike.
  std::uint64_t answers_hash() const { return info_.answers_as != 0 ? info_.answers_as : hash_; }
  const std::string& path() const { return path_; }
  const kernels::Kernels& kernels() const { return *kernels_; }

  // Makes an input ready. Fails where it is none for this network; what begin() refuses too may
  // be left to it.
  virtual Result<Prepared> prepare(const Input& input) const = 0;
  // For who has to know whether begin() will take an input before he begins with it, or sends it
  // without beginning: does what begin() does with the bytes alone, and fails where that fails.
  // What it leaves in `decoded` is for PreparedView::decoded and saves doing it again; it may be
  // nothing.
  virtual Status decode(PreparedView, std::vector<float>& decoded) const {
    decoded.clear();
    return {};
  }
  // Some input of `length` (1 .. max_length) units, for measurements.
  virtual Prepared random_input(std::size_t length, std::uint64_t seed) const = 0;

  // Reads what samples have not needed so far: who wants the first one to be as fast as the others
  // calls it before. Fails where the file cannot be read any more.
  virtual Status load_all() const = 0;

  // `threads` > 1 makes the engine use helper threads of its own for single products.
  virtual std::unique_ptr<Engine> make_engine(std::size_t threads = 1) const = 0;
  virtual std::unique_ptr<BatchEngine> make_batch_engine(std::size_t max_samples,
                                                         std::size_t threads = 1) const = 0;

 protected:
  Network() = default;

  NetworkInfo info_;
  std::uint64_t hash_ = 0;
  std::string path_;
  const kernels::Kernels* kernels_ = nullptr;
};

}  // namespace splitee::runtime
