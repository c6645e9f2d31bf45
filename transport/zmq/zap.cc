#include "transport/zmq/zap.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <system_error>
#include <vector>

#include <sys/random.h>

#include "transport/zmq/event.h"
#include "transport/zmq/socket.h"

namespace splitee::transport {
namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kRoutingIdBytes = 16;

// Request frames: version, request id, domain, address, identity, mechanism, credentials.
// The kept parts of Received are fewer than that.
constexpr std::size_t kRequestFrames = 7;
constexpr std::size_t kMaxFrames = 16;

constexpr std::chrono::milliseconds kPause(1);

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

// A routing id that no other connection has. Those that begin with a zero byte are ZeroMQ's own.
std::string new_routing_id() {
  std::array<unsigned char, kRoutingIdBytes> id{};
  if (getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  id[0] |= 1;
  return std::string(id.begin(), id.end());
}

// ZMTP's metadata with one property: a length and a name, a length and a value.
std::string identity_metadata() {
  constexpr std::string_view kName = "Identity";
  std::string data(1, static_cast<char>(kName.size()));
  data += kName;
  data += std::string{'\0', '\0', '\0', static_cast<char>(kRoutingIdBytes)};
  return data + new_routing_id();
}

}  // namespace

struct ZapHandler::Verdict {
  const char* status = "400";
  const char* text = "not authorized";
  std::string user, metadata;
};

ZapHandler::ZapHandler(zmq::context_t& context, Rules rules, ServerCounters& counters)
    : socket_(context, zmq::socket_type::router), rules_(std::move(rules)), counters_(counters) {
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
    if ((items[0].revents & ZMQ_POLLIN) == 0) continue;
    try {
      answer_all();
    } catch (const std::exception&) {
      // Out of memory: these handshakes get no answer and end at their deadline.
      ++counters_.denied;
    }
  }
}

// ZeroMQ takes the routing id from whichever comes later, this answer or the client's own word,
// which it reads right after it has asked: so no answer comes at once.
void ZapHandler::answer_all() {
  std::vector<std::vector<std::string>> requests;
  for (;;) {
    requests.push_back(receive_request(socket_));
    if (requests.back().empty()) break;
  }
  std::this_thread::sleep_for(kPause);
  for (std::vector<std::string>& request : requests) answer(std::move(request));
}

ZapHandler::Verdict ZapHandler::judge(const std::vector<std::string>& request) {
  Verdict verdict;
  const bool with_key = request.size() == kRequestFrames && request[0] == "1.0" &&
                        request[2] == kZapDomain && request[5] == "CURVE" &&
                        request[6].size() == kKeyBytes;
  if (!with_key) return verdict;
  const std::string user = to_z85(request[6]);
  if (rules_.allowed.count(request[6]) == 0) {
    if (rules_.notice) {
      rules_.notice("refused the key " + user + " from " + request[3] +
                    ": it is not on the list of authorized keys");
    }
    return verdict;
  }
  if (rules_.book != nullptr && !rules_.book->admit(user, now_us())) {
    if (rules_.notice) {
      rules_.notice("refused the key " + user + " from " + request[3] +
                    ": it has as many connections as one key may have");
    }
    ++counters_.key_over_limit;
    // What a client is told of; 300 would end the connection without a word.
    verdict.status = "500";
    verdict.text = "too many connections";
    return verdict;
  }
  verdict = {"200", "", user, identity_metadata()};
  return verdict;
}

void ZapHandler::answer(std::vector<std::string> request) {
  // Who asks, and the empty frame behind it.
  if (request.size() < 4) return;
  const std::vector<std::string> address(request.begin(), request.begin() + 2);
  request.erase(request.begin(), request.begin() + 2);
  const Verdict verdict = judge(request);
  if (verdict.user.empty()) ++counters_.denied;
  const std::array<std::string, 8> reply = {address[0],   address[1],      "1.0",
                                            request[1],   verdict.status,  verdict.text,
                                            verdict.user, verdict.metadata};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    const int flags = ZMQ_DONTWAIT | (i + 1 < reply.size() ? ZMQ_SNDMORE : 0);
    zmq_send(socket_.handle(), reply[i].data(), reply[i].size(), flags);
  }
}

}  // namespace splitee::transport
