#include "transport/zap.h"

#include <array>
#include <cerrno>
#include <string_view>
#include <vector>

#include "transport/event.h"
#include "transport/socket.h"

namespace splitee::transport {
namespace {

constexpr std::size_t kKeyBytes = 32;

// Request frames: version, request id, domain, address, identity, mechanism, credentials.
// The kept parts of Received are fewer than that.
constexpr std::size_t kRequestFrames = 7;
constexpr std::size_t kMaxFrames = 16;

std::vector<std::string> receive_request(zmq::socket_t& socket) {
  std::vector<std::string> frames;
  for (bool more = true; more;) {
    zmq::message_t part;
    if (zmq_msg_recv(part.handle(), socket.handle(), ZMQ_DONTWAIT) < 0) {
      if (errno == EINTR) continue;
      return {};
    }
    more = part.more();
    if (frames.size() < kMaxFrames) frames.push_back(part.to_string());
  }
  return frames;
}

// The text of a key: what ZeroMQ hands on as the user of a connection.
std::string to_z85(const std::string& key) {
  std::array<char, 41> text{};
  zmq_z85_encode(text.data(), reinterpret_cast<const std::uint8_t*>(key.data()), key.size());
  return text.data();
}

}  // namespace

ZapHandler::ZapHandler(zmq::context_t& context, std::set<std::string> allowed,
                       std::atomic<std::uint64_t>& denied)
    : socket_(context, zmq::socket_type::rep), allowed_(std::move(allowed)), denied_(denied) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind("inproc://zeromq.zap.01");
  thread_ = std::thread([this] { serve(); });
}

ZapHandler::~ZapHandler() {
  stop_.signal();
  thread_.join();
}

void ZapHandler::serve() {
  for (;;) {
    zmq_pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0},
                              {nullptr, stop_.fd(), ZMQ_POLLIN, 0}};
    zmq_poll(items, 2, -1);
    if ((items[1].revents & ZMQ_POLLIN) != 0) return;
    if ((items[0].revents & ZMQ_POLLIN) != 0) answer();
  }
}

void ZapHandler::answer() {
  const std::vector<std::string> request = receive_request(socket_);
  if (request.size() < 2) return;
  const bool allowed = request.size() == kRequestFrames && request[0] == "1.0" &&
                       request[2] == kZapDomain && request[5] == "CURVE" &&
                       request[6].size() == kKeyBytes && allowed_.count(request[6]) != 0;
  if (!allowed) ++denied_;
  const std::string user = allowed ? to_z85(request[6]) : "";
  const std::array<std::string, 6> reply = {
      "1.0", request[1], allowed ? "200" : "400", allowed ? "" : "not authorized", user, ""};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    const int flags = ZMQ_DONTWAIT | (i + 1 < reply.size() ? ZMQ_SNDMORE : 0);
    zmq_send(socket_.handle(), reply[i].data(), reply[i].size(), flags);
  }
}

}  // namespace splitee::transport
