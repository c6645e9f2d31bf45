#include "transport/server/server.h"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "transport/server/front.h"
#include "transport/server/notices.h"
#include "transport/server/server_core.h"
#include "transport/zmq/channel.h"
#include "transport/zmq/endpoint.h"
#include "transport/zmq/event.h"
#include "transport/zmq/listener.h"
#include "transport/zmq/socket.h"

namespace splitee::transport {
namespace {

// Connections not accepted yet: enough for edges that come back together.
constexpr int kBacklog = 512;
constexpr int kFlushMs = 500;
// After so many messages the answers of the workers get their turn.
constexpr int kMessagesAtOnce = 64;
// While messages keep coming, descriptors are looked at so often.
constexpr unsigned kRoundsBetweenWaits = 16;
// A request that should take no longer, and comes alone, is run by the I/O thread itself: handing
// it to a worker and back would take as long.
constexpr std::int64_t kQuickUs = 100;
constexpr std::int64_t kSmallestFrameLimit = 1'024;
// While memory is out.
constexpr std::chrono::milliseconds kOutOfMemoryPause(5);

std::uint64_t longest_payload(const ModelShape& shape) {
  std::uint64_t most = shape.max_input_bytes;
  for (std::size_t layer = 1; layer <= shape.layers(); ++layer) {
    most = std::max(most,
                    activation_bytes(Dtype::kF32, shape.max_rows(layer), shape.sizes[layer].cols));
  }
  return most;
}

std::int64_t longest_frame(const ModelShape& shape) {
  return std::max(kSmallestFrameLimit, static_cast<std::int64_t>(longest_payload(shape)));
}

Status check_shape(const ModelShape& shape) {
  bool fits = shape.layers() >= 1 && shape.layers() <= kMaxLayers && shape.classes >= 1 &&
              shape.classes <= kMaxClasses && shape.max_length >= 1 &&
              shape.max_length <= kMaxRows && shape.max_input_bytes <= kMaxPayloadBytes;
  for (std::size_t layer = 1; layer <= shape.layers(); ++layer) {
    fits =
        fits && activation_bytes(Dtype::kF32, shape.max_rows(layer), shape.sizes[layer].cols) > 0;
  }
  return fits ? Status() : Status{Code::kUnsupported, "the model is too large for the protocol"};
}

Status check_options(const ModelShape& shape, const ServerOptions& options) {
  const auto bad = [](const std::string& what) { return Status{Code::kInvalidArgument, what}; };
  if (Status status = check_shape(shape); !status.ok()) return status;
  if (Status status = check_bind_endpoint(options.endpoint); !status.ok()) return status;
  if (options.threads == 0) return bad("no worker threads");
  if (options.max_batch == 0) return bad("batch of no requests");
  const std::uint64_t longest = longest_payload(shape);
  if (options.max_queue == 0) return bad("queue of no requests");
  if (options.max_queue_bytes < longest || options.max_edge_bytes < longest) {
    return bad("queue of fewer bytes than one request of the model may have");
  }
  if (options.max_sessions == 0) return bad("no sessions");
  if (options.max_connections == 0) return bad("no connections");
  if (options.max_key_connections == 0) return bad("no connections of a key");
  if (options.max_window == 0 || options.max_window > kMaxWindow) return bad("window");
  if (!options.curve) return {};
  if (!decode_curve_key(options.curve->public_key)) return bad("public key is not a CURVE key");
  if (!decode_curve_key(options.curve->secret_key)) return bad("secret key is not a CURVE key");
  for (const std::string& key : options.curve->authorized_keys) {
    if (!decode_curve_key(key)) return bad("authorized key '" + key + "' is not a CURVE key");
  }
  return {};
}

// A backend for each worker, and one for the I/O thread.
std::shared_ptr<ServedModel> make_served(const ModelShape& shape, const BackendFactory& factory,
                                         const ServerOptions& options) {
  return std::make_shared<ServedModel>(shape, factory, options.threads + 1);
}

std::string_view text_of(const zmq::message_t& part) {
  return {static_cast<const char*>(part.data()), part.size()};
}

// Does what must be done though memory is out for a while: an accepted request gets its answer.
template <class Body>
void patiently(const Body& body) {
  for (;;) {
    try {
      return body();
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(kOutOfMemoryPause);
    }
  }
}

}  // namespace

struct Server::Impl {
  Impl(std::shared_ptr<ServedModel> model, const ServerOptions& server_options);
  ~Impl();

  void start_workers();
  void worker(std::size_t index);
  std::vector<Answer> run_batch(const std::vector<Job>& jobs, std::size_t backend_index,
                                Scratch& scratch);
  void run_quick();
  void hand_back(std::vector<Answer> done);

  void take_new_model();
  void deliver_answers();
  void receive_messages();
  void handle(const std::shared_ptr<Received>& message);
  void send_answer(const Answer& answer);
  void send_frames(std::string_view peer, Frames frames);
  void turn();
  bool drained() const { return core.shutting_down() && core.outstanding() == 0; }
  bool out_of_time() const { return core.shutting_down() && now_us() >= drain_until_us; }
  void give_up();
  std::int64_t wait_us() const;
  std::uint64_t accounted_bytes() const;

  const ServerOptions options;
  const std::int64_t frame_limit;
  ServerCounters counters;
  Notices notices;
  JobQueue queue;
  ServerCore core;
  std::vector<std::thread> workers;

  std::atomic<bool> stopping{false};
  Event wake;        // stop(), an answer or a new model
  std::mutex mutex;  // of the two below
  std::vector<Answer> answers;
  std::shared_ptr<ServedModel> new_model;
  Scratch quick_scratch;
  std::int64_t drain_until_us = 0;  // once the core is shutting down

  Front front;
};

Server::Impl::Impl(std::shared_ptr<ServedModel> model, const ServerOptions& server_options)
    : options(server_options),
      frame_limit(longest_frame(model->shape)),
      counters(options.curve ? options.curve->authorized_keys : std::vector<std::string>()),
      notices(options.notice),
      queue(limits_of(options), kQuickUs),
      core(std::move(model), options, queue, counters),
      front(options, frame_limit, counters, notices) {}

Server::Impl::~Impl() {
  queue.close();
  for (std::thread& thread : workers) thread.join();
}

void Server::Impl::start_workers() {
  for (std::size_t i = 0; i < options.threads; ++i) {
    workers.emplace_back([this, i] { worker(i); });
  }
}

void Server::Impl::worker(std::size_t index) {
  Scratch scratch;
  while (queue.wait()) {
    std::vector<Job> jobs;
    patiently([&] { jobs = queue.take(now_us()); });
    if (!jobs.empty()) hand_back(run_batch(jobs, index, scratch));
  }
}

std::vector<Answer> Server::Impl::run_batch(const std::vector<Job>& jobs, std::size_t backend_index,
                                            Scratch& scratch) {
  const std::int64_t begin_us = now_us();
  Backend& backend = *jobs.front().model->backends[backend_index];
  Executed executed;
  patiently([&] { executed = execute(jobs, backend, scratch, begin_us); });
  const std::int64_t elapsed_us = now_us() - begin_us;
  for (Answer& answer : executed.answers) answer.service_us = elapsed_us;
  std::uint64_t work = 0;
  for (const Job& job : jobs) work += job.work;
  queue.finished(work, executed.run_work, elapsed_us);
  counters.batch_size.add(static_cast<std::int64_t>(jobs.size()));
  if (!executed.fault.empty()) {
    patiently([&] {
      notices.tell("a request failed by a fault of this server: " + executed.fault, begin_us);
    });
  }
  return std::move(executed.answers);
}

void Server::Impl::run_quick() {
  const std::vector<Job> jobs = queue.take_quick(now_us());
  if (jobs.empty()) return;
  // The backend behind those of the workers.
  for (const Answer& answer : run_batch(jobs, options.threads, quick_scratch)) send_answer(answer);
}

void Server::Impl::hand_back(std::vector<Answer> done) {
  patiently([&] {
    const std::lock_guard lock(mutex);
    answers.reserve(answers.size() + done.size());
    std::move(done.begin(), done.end(), std::back_inserter(answers));
  });
  wake.signal();
}

void Server::Impl::send_frames(std::string_view peer, Frames frames) {
  const std::uint64_t bytes = frames.size();
  if (front.send(std::as_bytes(std::span(peer)), std::move(frames))) {
    counters.bytes_out += bytes;
  } else {
    ++counters.undeliverable;
  }
}

void Server::Impl::send_answer(const Answer& answer) {
  try {
    std::optional<Frames> frames = core.complete(answer, now_us());
    if (frames) send_frames(answer.address.peer, std::move(*frames));
  } catch (const std::exception&) {
    // Out of memory. It is completed; the edge finishes its sample itself, at its deadline.
    ++counters.undeliverable;
  }
}

void Server::Impl::take_new_model() {
  std::shared_ptr<ServedModel> model;
  {
    const std::lock_guard lock(mutex);
    model.swap(new_model);
  }
  if (!model) return;
  core.set_model(std::move(model));
  ++counters.reloads;
}

void Server::Impl::deliver_answers() {
  std::vector<Answer> ready;
  {
    const std::lock_guard lock(mutex);
    ready.swap(answers);
  }
  for (const Answer& answer : ready) send_answer(answer);
}

void Server::Impl::handle(const std::shared_ptr<Received>& message) {
  counters.bytes_in += message->bytes;
  const std::string_view peer = text_of(message->parts.front());
  std::vector<Answer> dropped;
  std::optional<Frames> frames_back = core.receive(
      {peer, Front::user_of(*message), message->frames(1), message}, now_us(), dropped);
  for (const Answer& answer : dropped) send_answer(answer);
  if (frames_back) send_frames(peer, std::move(*frames_back));
}

void Server::Impl::receive_messages() {
  for (int i = 0; i < kMessagesAtOnce; ++i) {
    // Shared with the job, if it becomes one: the payload stays where ZeroMQ put it.
    auto message = std::make_shared<Received>();
    if (!front.receive(*message)) return;
    handle(message);
  }
}

// Of requests that are held, at the most.
std::uint64_t Server::Impl::accounted_bytes() const {
  return core.outstanding() * static_cast<std::uint64_t>(frame_limit);
}

Server::Server() = default;

Server::~Server() {
  if (!impl_) return;
  impl_->front.set_flush(kFlushMs);
}

Result<std::unique_ptr<Server>> Server::create(std::shared_ptr<const runtime::Network> network,
                                               const ServerOptions& options) {
  return create(
      shape_of(*network), [&] { return make_engine_backend(network, options.max_batch); }, options);
}

Result<std::unique_ptr<Server>> Server::create(const ModelShape& shape,
                                               const BackendFactory& factory,
                                               const ServerOptions& options) {
  if (Status status = check_options(shape, options); !status.ok()) return status;
  Result<Listener> listener = Listener::open(options.endpoint, kBacklog);
  if (!listener.ok()) return listener.status();
  std::unique_ptr<Server> server(new Server);
  try {
    server->impl_ = std::make_unique<Impl>(make_served(shape, factory, options), options);
    server->impl_->front.open(std::move(*listener));
    server->impl_->start_workers();
    server->impl_->front.rebase();
  } catch (const std::exception& error) {
    return Status{Code::kIo, std::string("cannot start the server: ") + error.what()};
  }
  return server;
}

const std::string& Server::endpoint() const {
  return impl_->front.endpoints().front();
}

const std::vector<std::string>& Server::endpoints() const {
  return impl_->front.endpoints();
}

const ServerCounters& Server::counters() const {
  return impl_->counters;
}

Status Server::replace_model(std::shared_ptr<const runtime::Network> network) {
  const std::size_t max_batch = impl_->options.max_batch;
  return replace_model(shape_of(*network), [&] { return make_engine_backend(network, max_batch); });
}

Status Server::replace_model(const ModelShape& shape, const BackendFactory& factory) {
  if (Status status = check_shape(shape); !status.ok()) return status;
  if (longest_frame(shape) > impl_->frame_limit) {
    return {Code::kUnsupported,
            "the model takes longer samples than the one the server was started with"};
  }
  try {
    auto model = make_served(shape, factory, impl_->options);
    const std::lock_guard lock(impl_->mutex);
    impl_->new_model = std::move(model);
  } catch (const std::exception& error) {
    return {Code::kIo, std::string("cannot prepare the model: ") + error.what()};
  }
  impl_->wake.signal();
  return {};
}

void Server::count_failed_reload() {
  ++impl_->counters.failed_reloads;
}

void Server::stop() noexcept {
  impl_->stopping.store(true);
  impl_->wake.signal();
}

// One round of the I/O thread, without waiting.
void Server::Impl::turn() {
  deliver_answers();
  take_new_model();
  // The socket stays bound: unbinding would cut the connections that answers are due on.
  if (stopping && !core.shutting_down()) {
    drain_until_us = now_us() + std::int64_t{options.drain_ms} * 1'000;
    core.shut_down();
  }
  if (front.messages().pending()) receive_messages();
  run_quick();
  front.look_after(now_us(), accounted_bytes());
}

// What waits is refused, what was done meanwhile is answered; what runs is not waited for.
void Server::Impl::give_up() {
  for (;;) {
    std::vector<Job> jobs;
    patiently([&] { jobs = queue.take(now_us()); });
    if (jobs.empty()) break;
    std::vector<Answer> refused;
    patiently([&] { refused = refuse_all(jobs, Shed::kShuttingDown); });
    for (const Answer& answer : refused) send_answer(answer);
  }
  deliver_answers();
}

// Until something is to be done that nothing tells of; negative: never.
std::int64_t Server::Impl::wait_us() const {
  std::int64_t next_us = front.next_look_us();
  if (core.shutting_down()) {
    next_us = next_us < 0 ? drain_until_us : std::min(next_us, drain_until_us);
  }
  return next_us < 0 ? -1 : std::max<std::int64_t>(0, next_us - now_us());
}

void Server::run() {
  pollfd wake{impl_->wake.fd(), POLLIN, 0};
  unsigned rounds = 0;
  while (!impl_->drained() && !impl_->out_of_time()) {
    if (wake.revents != 0) impl_->wake.clear();
    try {
      impl_->turn();
      // Most often nothing new has come while an answer was sent: no call to find out.
      if (impl_->front.messages().pending() && ++rounds % kRoundsBetweenWaits != 0) continue;
      if (impl_->drained()) break;
      Channel* const channels[] = {&impl_->front.messages(), &impl_->front.connections()};
      wait(channels, std::span(&wake, 1), impl_->wait_us());
    } catch (const std::exception&) {
      // Memory or descriptors are out: what was at hand is dropped, and the rest goes on.
      ++impl_->counters.undeliverable;
      std::this_thread::sleep_for(kOutOfMemoryPause);
    }
  }
  impl_->give_up();
}

}  // namespace splitee::transport
