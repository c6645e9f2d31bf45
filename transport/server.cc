#include "transport/server.h"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "transport/channel.h"
#include "transport/connection_guard.h"
#include "transport/endpoint.h"
#include "transport/event.h"
#include "transport/server_core.h"
#include "transport/socket.h"
#include "transport/zap.h"

namespace splitee::transport {
namespace {

using runtime::Code;
using runtime::Result;
using runtime::Status;

// Answers that ZeroMQ keeps per peer, beyond twice the window (it frees places in batches of half);
// they are small.
constexpr int kHighWater = 16;
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
// Of a whole message beyond its longest frame: header, ZeroMQ's and CURVE's framing, heartbeats.
constexpr std::uint64_t kMessageSlackBytes = 256 << 10;
constexpr std::int64_t kSmallestFrameLimit = 1'024;
// Of what one edge may have sent and is not read yet, beyond a full window.
constexpr std::uint64_t kUnreadSlackBytes = 4 << 20;
// What ZeroMQ adds to a short part: flags and size; with CURVE a command's name, nonce and tag too.
constexpr std::uint64_t kPartBytes = 2, kCurvePartBytes = kPartBytes + 33;

std::uint64_t longest_payload(const ModelShape& shape) {
  return std::max(infer_payload_bytes(Dtype::kF32, shape.max_tokens, shape.hidden),
                  infer_payload_bytes(Dtype::kTokens, shape.max_tokens, 0));
}

std::int64_t longest_frame(const ModelShape& shape) {
  return std::max(kSmallestFrameLimit, static_cast<std::int64_t>(longest_payload(shape)));
}

Status check_shape(const ModelShape& shape) {
  if (shape.layers == 0 || shape.layers > kMaxLayers || shape.classes == 0 ||
      shape.classes > kMaxClasses || shape.hidden == 0 || shape.max_tokens == 0 ||
      infer_payload_bytes(Dtype::kF32, shape.max_tokens, shape.hidden) == 0) {
    return {Code::kUnsupported, "the model is too large for the protocol"};
  }
  return {};
}

Status check_options(const ModelShape& shape, const ServerOptions& options) {
  const auto bad = [](const std::string& what) { return Status{Code::kInvalidArgument, what}; };
  if (Status status = check_shape(shape); !status.ok()) return status;
  if (Status status = check_endpoint(options.endpoint); !status.ok()) return status;
  if (options.threads == 0) return bad("no worker threads");
  if (options.max_batch == 0) return bad("batch of no requests");
  const std::uint64_t longest = longest_payload(shape);
  if (options.max_queue == 0) return bad("queue of no requests");
  if (options.max_queue_bytes < longest || options.max_edge_bytes < longest) {
    return bad("queue of fewer bytes than one request of the model may have");
  }
  if (options.max_sessions == 0) return bad("no sessions");
  if (options.max_connections == 0) return bad("no connections");
  if (options.max_window == 0 || options.max_window > kMaxWindow) return bad("window");
  if (!options.curve) return {};
  if (!decode_curve_key(options.curve->public_key)) return bad("public key is not a CURVE key");
  if (!decode_curve_key(options.curve->secret_key)) return bad("secret key is not a CURVE key");
  for (const std::string& key : options.curve->authorized_keys) {
    if (!decode_curve_key(key)) return bad("authorized key '" + key + "' is not a CURVE key");
  }
  return {};
}

std::set<std::string> decode_keys(const std::vector<std::string>& keys) {
  std::set<std::string> decoded;
  for (const std::string& key : keys) decoded.insert(decode_curve_key(key).value());
  return decoded;
}

// A backend for each worker, and one for the I/O thread.
std::shared_ptr<ServedModel> make_served(const ModelShape& shape, const BackendFactory& factory,
                                         const ServerOptions& options) {
  return std::make_shared<ServedModel>(shape, factory, options.threads + 1);
}

std::string_view text_of(const zmq::message_t& part) {
  return {static_cast<const char*>(part.data()), part.size()};
}

}  // namespace

struct Server::Impl {
  Impl(std::shared_ptr<ServedModel> model, const ServerOptions& server_options);
  ~Impl();

  void bind();
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

  const ServerOptions options;
  const std::int64_t frame_limit;
  std::string endpoint;
  ServerCounters counters;
  JobQueue queue;
  ServerCore core;
  std::vector<std::thread> workers;

  std::atomic<bool> stopping{false};
  Event wake;        // stop(), an answer or a new model
  std::mutex mutex;  // of the two below
  std::vector<Answer> answers;
  std::shared_ptr<ServedModel> new_model;
  Scratch quick_scratch;

  zmq::context_t context{1};
  std::optional<ZapHandler> zap;
  Channel channel;
  std::optional<ConnectionGuard> guard;
};

Server::Impl::Impl(std::shared_ptr<ServedModel> model, const ServerOptions& server_options)
    : options(server_options),
      frame_limit(longest_frame(model->shape)),
      counters(options.curve ? options.curve->authorized_keys : std::vector<std::string>()),
      queue(limits_of(options), kQuickUs),
      core(std::move(model), options, queue, counters) {}

void Server::Impl::bind() {
  using namespace zmq::sockopt;
  if (options.curve)
    zap.emplace(context, decode_keys(options.curve->authorized_keys), counters.denied);
  channel = Channel(zmq::socket_t(context, zmq::socket_type::router));
  zmq::socket_t& socket = channel.socket();
  configure(socket, frame_limit, kHighWater + 2 * static_cast<int>(options.max_window));
  // A half-open handshake gives its place back soon (default 30 s).
  socket.set(handshake_ivl, static_cast<int>(options.handshake_ms));
  // Without it an answer to a peer that is gone or does not read vanishes silently.
  socket.set(router_mandatory, 1);
  // A second connection with a routing id in use is turned away, not given the first one's answers.
  socket.set(router_handover, 0);
  socket.set(backlog, kBacklog);
  socket.set(ipv6, 1);
  if (options.curve) {
    socket.set(curve_server, 1);
    socket.set(curve_publickey, options.curve->public_key);
    socket.set(curve_secretkey, options.curve->secret_key);
    socket.set(zap_domain, kZapDomain);
  }
  const auto longest = static_cast<std::uint64_t>(frame_limit);
  guard.emplace(context, socket,
                ConnectionGuard::Limits{options.max_connections, longest + kMessageSlackBytes,
                                        options.max_window * longest + kUnreadSlackBytes,
                                        options.curve ? kCurvePartBytes : kPartBytes},
                counters);
  // libzmq before 4.3.5 takes a name for an interface's when it binds.
  constexpr std::string_view kLocalhost = "tcp://localhost:";
  std::string address = options.endpoint;
  if (address.starts_with(kLocalhost)) address.replace(0, kLocalhost.size(), "tcp://127.0.0.1:");
  socket.bind(address);
  endpoint = socket.get(last_endpoint);
}

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
  for (;;) {
    const std::vector<Job> jobs = queue.take();
    if (jobs.empty()) return;
    hand_back(run_batch(jobs, index, scratch));
  }
}

std::vector<Answer> Server::Impl::run_batch(const std::vector<Job>& jobs, std::size_t backend_index,
                                            Scratch& scratch) {
  const std::int64_t begin_us = now_us();
  Backend& backend = *jobs.front().model->backends[backend_index];
  Executed executed = execute(jobs, backend, scratch, begin_us);
  const std::int64_t elapsed_us = now_us() - begin_us;
  for (Answer& answer : executed.answers) answer.service_us = elapsed_us;
  std::uint64_t work = 0;
  for (const Job& job : jobs) work += job.work;
  queue.finished(work, executed.run_work, elapsed_us);
  counters.batch_size.add(static_cast<std::int64_t>(jobs.size()));
  return std::move(executed.answers);
}

void Server::Impl::run_quick() {
  const std::vector<Job> jobs = queue.take_quick();
  if (jobs.empty()) return;
  // The backend behind those of the workers.
  for (const Answer& answer : run_batch(jobs, options.threads, quick_scratch)) send_answer(answer);
}

void Server::Impl::hand_back(std::vector<Answer> done) {
  {
    const std::lock_guard lock(mutex);
    std::move(done.begin(), done.end(), std::back_inserter(answers));
  }
  wake.signal();
}

void Server::Impl::send_frames(std::string_view peer, Frames frames) {
  const std::uint64_t bytes = frames.size();
  if (channel.send(std::as_bytes(std::span(peer)), std::move(frames))) {
    counters.bytes_out += bytes;
  } else {
    ++counters.undeliverable;
  }
}

void Server::Impl::send_answer(const Answer& answer) {
  std::optional<Frames> frames = core.complete(answer, now_us());
  if (frames) send_frames(answer.address.peer, std::move(*frames));
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
  guard->delivered(*message);
  const std::string_view peer = text_of(message->parts.front());
  const char* user = zmq_msg_gets(message->parts.back().handle(), "User-Id");
  std::vector<Answer> dropped;
  std::optional<Frames> frames_back = core.receive(
      {peer, user != nullptr ? user : "", message->frames(1), message}, now_us(), dropped);
  if (frames_back) send_frames(peer, std::move(*frames_back));
  for (const Answer& answer : dropped) send_answer(answer);
}

void Server::Impl::receive_messages() {
  guard->drained(false);
  for (int i = 0; i < kMessagesAtOnce; ++i) {
    try {
      // Shared with the job, if it becomes one: the payload stays where ZeroMQ put it.
      auto message = std::make_shared<Received>();
      if (!channel.receive(*message)) return guard->drained(true);
      handle(message);
    } catch (const std::bad_alloc&) {
      // The edge finishes its sample itself, at its deadline.
      ++counters.undeliverable;
    }
  }
}

Server::Server() = default;

Server::~Server() {
  if (!impl_) return;
  // Without exceptions, hence the C call.
  zmq_setsockopt(impl_->channel.socket().handle(), ZMQ_LINGER, &kFlushMs, sizeof kFlushMs);
}

Result<std::unique_ptr<Server>> Server::create(std::shared_ptr<const runtime::Model> model,
                                               const ServerOptions& options) {
  return create(
      shape_of(*model), [&] { return make_engine_backend(model, options.max_batch); }, options);
}

namespace {

std::string listen_problem(const zmq::error_t& error) {
  if (error.num() == ENODEV || error.num() == EADDRNOTAVAIL) return "no address of this machine";
  return error.what();
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(const ModelShape& shape,
                                               const BackendFactory& factory,
                                               const ServerOptions& options) {
  if (Status status = check_options(shape, options); !status.ok()) return status;
  std::unique_ptr<Server> server(new Server);
  try {
    server->impl_ = std::make_unique<Impl>(make_served(shape, factory, options), options);
    server->impl_->bind();
    server->impl_->start_workers();
  } catch (const zmq::error_t& error) {
    return Status{Code::kIo, "cannot listen on " + options.endpoint + ": " + listen_problem(error)};
  } catch (const std::exception& error) {
    return Status{Code::kIo, std::string("cannot start the server: ") + error.what()};
  }
  return server;
}

const std::string& Server::endpoint() const {
  return impl_->endpoint;
}

const ServerCounters& Server::counters() const {
  return impl_->counters;
}

Status Server::replace_model(std::shared_ptr<const runtime::Model> model) {
  const std::size_t max_batch = impl_->options.max_batch;
  return replace_model(shape_of(*model), [&] { return make_engine_backend(model, max_batch); });
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

void Server::run() {
  pollfd wake{impl_->wake.fd(), POLLIN, 0};
  Channel* const channels[] = {&impl_->channel, &impl_->guard->channel()};
  unsigned rounds = 0;
  for (;;) {
    if (wake.revents != 0) impl_->wake.clear();
    impl_->deliver_answers();
    impl_->take_new_model();
    // The socket stays bound: unbinding would cut the connections that answers are due on.
    if (impl_->stopping) impl_->core.shut_down();
    if (impl_->channel.pending()) impl_->receive_messages();
    impl_->run_quick();
    if (impl_->guard->channel().pending()) impl_->guard->update();
    impl_->guard->scan(now_us());
    if (impl_->core.shutting_down() && impl_->core.outstanding() == 0) break;
    // Most often nothing new has come while an answer was sent: no call to find out.
    if (impl_->channel.pending() && ++rounds % kRoundsBetweenWaits != 0) continue;
    const std::int64_t scan_us = impl_->guard->next_scan_us();
    wait(channels, std::span(&wake, 1),
         scan_us < 0 ? -1 : std::max<std::int64_t>(0, scan_us - now_us()));
  }
}

}  // namespace splitee::transport
