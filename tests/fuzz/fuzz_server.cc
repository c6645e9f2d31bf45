// Message sequences into the server's state machine: the input is a program of messages from four
// peers, of time that passes, and of what the workers do.
#include <deque>
#include <limits>
#include <memory>
#include <new>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/reseal.h"
#include "tests/transport/shapes.h"
#include "transport/server/job_queue.h"
#include "transport/server/server_core.h"

using namespace splitee;
using namespace splitee::transport;
using namespace splitee::transport::testing;
using splitee::fuzz::require;
using splitee::fuzz::Taker;

namespace {

const ModelShape kShape = uniform_shape(0x1234, 4, 3, 5, 2);
constexpr std::size_t kPeers = 4, kQueue = 6, kQueueBytes = 150, kEdgeBytes = 100;

ServerOptions options() {
  ServerOptions made;
  made.max_queue = kQueue;
  made.max_queue_bytes = kQueueBytes;
  made.max_sessions = 3;
  made.max_window = 4;
  return made;
}

SchedulerLimits limits() {
  SchedulerLimits made;
  made.max_jobs = kQueue;
  made.max_bytes = kQueueBytes;
  made.max_flow_bytes = kEdgeBytes;
  made.max_batch = 3;
  made.max_batch_rows = 12;
  return made;
}

// Answers, fails, throws or answers nonsense, as the first value says.
class OddBackend : public Backend {
 public:
  explicit OddBackend(const ModelShape& shape) : shape_(shape) {}
  splitee::Result<std::vector<float>> run(const BackendRequest& request) override {
    require(request.layer < shape_.layers() && request.rows <= shape_.max_length);
    require(request.layer == 0 ? request.input.length == request.rows &&
                                     request.input.bytes.size() <= shape_.max_input_bytes
                               : request.activation.size() == request.rows * shape_.sizes[1].cols);
    const float first = request.activation.empty() ? 0 : request.activation.front();
    if (first == 1) return splitee::Status(splitee::Code::kCorrupt, "/secret");
    if (first == 2) throw std::bad_alloc();
    if (first == 3) return std::vector<float>{std::numeric_limits<float>::quiet_NaN(), 1};
    return std::vector<float>{0.25f, 0.75f};
  }

 private:
  const ModelShape shape_;
};

std::shared_ptr<ServedModel> served(const ModelShape& shape) {
  return std::make_shared<ServedModel>(
      shape, [&shape] { return std::make_unique<OddBackend>(shape); }, 1);
}

class Harness {
 public:
  explicit Harness(Taker& input) : input_(input) {}

  void run() {
    while (!input_.empty()) {
      step();
      check();
    }
    while (core_.outstanding() > 0) {
      work();
      deliver();
      check();
    }
    require(counters_.in_flight == 0 && queue_.size() == 0);
  }

 private:
  void step() {
    const std::uint8_t op = input_.byte();
    const std::size_t peer = (op >> 3) % kPeers;
    switch (op % 8) {
      case 0:
        return hello(peer);
      case 1:
        return infer(peer);
      case 2:
        return input(peer);
      case 3:
        return send(peer, encode(envelope(peer), Ping{}));
      case 4:
        return raw(peer, (op & 0x80) != 0);
      case 5:
        now_us_ += std::int64_t{input_.byte()} << (op >> 4);
        return;
      case 6:
        return work();
      default:
        special(input_.byte());
        return deliver();
    }
  }

  void special(std::uint8_t what) {
    if (what == 0xff) core_.shut_down();
    if (what != 0xfe) return;
    // Another model, of the same shape or a smaller one, takes the place of the present one.
    ModelShape other = kShape;
    if (input_.byte() % 2 == 0) other = uniform_shape(5, 3, 2, 4, 2);
    core_.set_model(served(other));
  }

  Envelope envelope(std::size_t peer) {
    const std::uint8_t odd = input_.byte();
    Envelope made{++last_id_[peer], kShape.model_hash, static_cast<std::uint64_t>(now_us_)};
    if (odd == 1) made.request_id = last_id_[peer] -= 1;
    if (odd == 2) made.model_hash = 5;
    if (odd == 3) made.clock_us = ~std::uint64_t{0};
    if (odd == 4) made.clock_us = 0;
    if (odd == 5) made.request_id = last_id_[peer] = ~std::uint64_t{0};
    return made;
  }

  void hello(std::size_t peer) {
    Hello body;
    body.window = 1 + input_.byte() % 8;
    send(peer, encode(envelope(peer), body));
  }

  void infer(std::size_t peer) {
    Infer shape{input_.byte() % 6u, input_.byte() % 7u, 3, Dtype::kF32, 0, {}};
    const std::uint8_t kind = input_.byte();
    shape.dtype = static_cast<Dtype>(1 + kind % 3);
    if (kind > 200) shape.cols = 2;
    shape.deadline_us = std::uint64_t{1} << (input_.byte() % 32);
    std::vector<float> values(shape.rows * shape.cols, static_cast<float>(input_.byte() % 5));
    auto frames = encode_activation(envelope(peer), shape, values);
    if (frames.ok()) send(peer, std::move(*frames));
  }

  void input(std::size_t peer) {
    const std::vector<std::byte> bytes(input_.byte() % 30);
    const std::size_t length = input_.byte() % 7;
    auto frames =
        encode_input(envelope(peer), 1 + input_.byte(), 1 + input_.byte() / 200, length, bytes);
    if (frames.ok()) send(peer, std::move(*frames));
  }

  void raw(std::size_t peer, bool sealed) {
    std::string header(input_.bytes(kHeaderBytes)), payload(input_.bytes(input_.byte()));
    if (sealed) splitee::fuzz::reseal(header, payload);
    receive(peer, {header, payload});
  }

  void send(std::size_t peer, Frames frames) {
    const auto text = [](std::span<const std::byte> bytes) {
      return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    receive(peer, {text(frames.header), text(frames.payload.bytes())});
  }

  void receive(std::size_t peer, std::vector<std::string> parts) {
    auto owner = std::make_shared<std::vector<std::string>>(std::move(parts));
    std::vector<std::span<const std::byte>> frames;
    for (const std::string& part : *owner) frames.push_back(splitee::fuzz::bytes_of(part));
    const std::string name = "peer " + std::to_string(peer);
    // Two peers share a routing id now and then, under different keys.
    const std::string user = peer == 3 ? "other" : "";
    std::vector<Answer> expired;
    check_frames(
        core_.receive({peer == 3 ? "peer 0" : name, user, frames, owner}, now_us_, expired));
    for (const Answer& answer : expired) check_frames(core_.complete(answer, now_us_));
  }

  void work() {
    if (queue_.size() == 0) return;
    const std::vector<Job> jobs = queue_.take(now_us_);
    require(!jobs.empty());
    Backend& backend = *jobs.front().model->backends.front();
    const Executed executed = execute(jobs, backend, scratch_, now_us_);
    require(executed.answers.size() == jobs.size());
    std::uint64_t work = 0;
    for (const Job& job : jobs) work += job.work;
    now_us_ += input_.byte();
    queue_.finished(work, executed.run_work, input_.byte());
    answers_.insert(answers_.end(), executed.answers.begin(), executed.answers.end());
  }

  void deliver() {
    if (answers_.empty()) return;
    check_frames(core_.complete(answers_.front(), now_us_));
    answers_.pop_front();
  }

  // Whatever the server says can be read and says nothing of the inside.
  void check_frames(const std::optional<Frames>& frames) {
    if (!frames) return;
    const auto message = decode_sent(*frames);
    require(message.ok());
    require(!std::holds_alternative<Hello>(message->body) &&
            !std::holds_alternative<Infer>(message->body));
    if (const auto* refusal = std::get_if<Refusal>(&message->body)) {
      require(refusal->text.find("secret") == std::string::npos);
      require(refusal->text.find("peer") == std::string::npos);
    }
  }

  void check() {
    require(queue_.size() <= kQueue && queue_.bytes() <= kQueueBytes);
    require(core_.outstanding() == queue_.size() + answers_.size());
    require(counters_.in_flight == core_.outstanding());
    require(counters_.sessions <= 3);
  }

  Taker& input_;
  std::int64_t now_us_ = 1'000'000;
  std::uint64_t last_id_[kPeers] = {};
  ServerCounters counters_;
  JobQueue queue_{limits()};
  ServerCore core_{served(kShape), options(), queue_, counters_};
  Scratch scratch_;
  std::deque<Answer> answers_;
};

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  // hello; infer, infer, work, deliver; hello again; input; time; garbage; shut down
  const std::string talk("\x00\x03\x00\x01\x02\x03\x00\x14\x00\x00\x01\x01\x02\x01\x14\x01\x00",
                         17);
  const std::string end("\x06\x00\x07\x00\x07\xff\x00\x01\x00", 9);
  std::string garbage = "\x84" + std::string(80, '\2');
  return {"", talk + end,
          talk + std::string("\x08\x03\x00\x0a\x04\x09\x00\xf5\xff", 9) + talk + end,
          talk + garbage + end,
          std::string("\x00\x07\x00\x18\x03\x00\x10\x01\x00", 9) + talk + talk + talk + talk + end};
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Taker input(data, size);
  Harness(input).run();
  return 0;
}
