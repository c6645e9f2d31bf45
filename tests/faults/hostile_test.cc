// Ten thousand connections that mean no good, of several kinds: what the server keeps of them while
// they are there is bounded, and once they are gone its memory is back, and good edges go on.
// The server is a process of its own, so that its resident memory is its own.
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/transport/server_peers.h"
#include "transport/zmq/curve.h"

namespace splitee::transport {

using namespace testing;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // memory that is freed is kept back
#else
constexpr bool kSanitized = false;
#endif

constexpr std::size_t kAtOnce = 200;  // connections open together
// More than that is kept of nobody: see Front::kLeftBytes, and what the allocator holds back.
constexpr std::size_t kBackKb = 40 << 10;
// While they are open: unfinished messages may take a share of the queue's 64 MiB, in small parts.
constexpr std::size_t kPeakKb = 256 << 10;

void raise_descriptors() {
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

class ServerProcess {
 public:
  // Before there is any other thread in this process.
  explicit ServerProcess(const ServerOptions& options) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::close(ends[0]);
      serve(options, ends[1]);
    }
    ::close(ends[1]);
    char text[200];
    const ssize_t size = ::read(ends[0], text, sizeof text);
    REQUIRE(size > 0);
    endpoint_.assign(text, static_cast<std::size_t>(size));
    ::close(ends[0]);
  }
  ~ServerProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  const std::string& endpoint() const { return endpoint_; }
  bool alive() const { return ::waitpid(pid_, nullptr, WNOHANG) == 0; }
  // VmRSS or VmHWM, the most so far.
  std::size_t memory_kb(const std::string& field = "VmRSS:") const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
    for (std::string word; file >> word;) {
      std::size_t kb = 0;
      if (word == field && file >> kb) return kb;
    }
    return 0;
  }

 private:
  [[noreturn]] static void serve(const ServerOptions& options, int told) {
    auto server = Server::create(kShape, fake_backend(), options);
    if (!server.ok()) ::_exit(1);
    const std::string& endpoint = (*server)->endpoint();
    (void)!::write(told, endpoint.data(), endpoint.size());
    ::close(told);
    (*server)->run();
    ::_exit(0);
  }
  pid_t pid_ = -1;
  std::string endpoint_;
};

// Strangers that use libzmq, in a process of their own: it may abort in whoever closes a socket
// while the connection breaks in the middle of a message (session_base.cpp, clean_pipes), which is
// what they are for.
class Strangers {
 public:
  // Before there is any other thread in this process. `work` gets the server's endpoint.
  explicit Strangers(const std::function<void(const std::string&)>& work) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::close(ends[1]);
      char text[200];
      const ssize_t size = ::read(ends[0], text, sizeof text);
      if (size > 0) work(std::string(text, static_cast<std::size_t>(size)));
      ::_exit(size > 0 ? 0 : 1);
    }
    ::close(ends[0]);
    told_ = ends[1];
  }
  ~Strangers() {
    ::close(told_);
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  }
  void run(const std::string& endpoint) {
    REQUIRE(::write(told_, endpoint.data(), endpoint.size()) ==
            static_cast<ssize_t>(endpoint.size()));
    int status = 0;
    REQUIRE(::waitpid(pid_, &status, 0) == pid_);
    pid_ = -1;
    const bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    REQUIRE((done || aborted));
  }

 private:
  pid_t pid_ = -1;
  int told_ = -1;
};

int connect_to(const std::string& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port =
      htons(static_cast<std::uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  // A server that is busy with others does not hold the test up.
  const timeval patience{0, 200'000};
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

// As far as the server takes it.
void send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

std::string repeated(const std::string& part, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all += part;
  return all;
}

std::string greeting(const std::string& mechanism) {
  std::string bytes("\xff\0\0\0\0\0\0\0\0\x7f\3\0", 12);
  bytes += mechanism;
  bytes.resize(64, '\0');
  return bytes;
}

// ZMTP 3's READY of a DEALER, and its routing id where it has one.
std::string ready(const std::string& routing_id) {
  std::string body("\5READY\x0bSocket-Type\0\0\0\6DEALER", 28);
  if (!routing_id.empty()) {
    body += std::string("\x08Identity\0\0\0", 12) + static_cast<char>(routing_id.size());
    body += routing_id;
  }
  return std::string("\4") + static_cast<char>(body.size()) + body;
}

struct Attack {
  std::string name;
  std::size_t connections;
  std::string opening, bytes;
};

// Until the other side has it all, or is gone; a batch waits no longer than a while.
void wait_until_taken(const std::vector<int>& open) {
  constexpr std::int64_t kWhileUs = 1'000'000;
  const std::int64_t until_us = now_us() + kWhileUs;
  for (const int fd : open) {
    int left = 0;
    while (::ioctl(fd, SIOCOUTQ, &left) == 0 && left > 0 && now_us() < until_us) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

void attack(const ServerProcess& server, const Attack& kind) {
  for (std::size_t done = 0; done < kind.connections; done += kAtOnce) {
    std::vector<int> open;
    for (std::size_t i = 0; i < kAtOnce; ++i) {
      open.push_back(connect_to(server.endpoint()));
      send_all(open.back(), kind.opening);
    }
    // What is not read when a connection is closed makes the system forget what was sent.
    char answer[256];
    for (const int fd : open) (void)!::recv(fd, answer, sizeof answer, 0);
    for (const int fd : open) send_all(fd, kind.bytes);
    wait_until_taken(open);
    for (const int fd : open) {
      while (::recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0) {
      }
      ::close(fd);
    }
  }
}

// The client asks for the memory meanwhile: an edge that lives through it all.
void check_memory(const ServerProcess& server, std::size_t before_kb, Client& good) {
  std::size_t now_kb = 0;
  CHECK(eventually([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    good.available();
    now_kb = server.memory_kb();
    return now_kb < before_kb + kBackKb;
  }));
  MESSAGE("resident before " << before_kb << " kB, at the most " << server.memory_kb("VmHWM:")
                             << " kB, after " << now_kb << " kB");
  CHECK(server.memory_kb("VmHWM:") < before_kb + kPeakKb);
  REQUIRE(server.alive());
  REQUIRE(good.wait_available(kPatienceUs));
  CHECK(offloads_well(good, 3));
}

void share_a_routing_id(const std::string& endpoint, const std::string& server_key,
                        const CurveKeyPair& keys) {
  zmq::context_t context;
  const Raw hello = to_raw(encode({1, kModelHash, 0}, Hello{}));
  for (int round = 0; round < 6; ++round) {
    std::vector<zmq::socket_t> sockets;
    for (int i = 0; i < 100; ++i) {
      zmq::socket_t socket(context, zmq::socket_type::dealer);
      socket.set(zmq::sockopt::linger, 500);
      socket.set(zmq::sockopt::routing_id, "same-identity-01");
      socket.set(zmq::sockopt::curve_serverkey, server_key);
      socket.set(zmq::sockopt::curve_publickey, keys.public_key);
      socket.set(zmq::sockopt::curve_secretkey, keys.secret_key);
      socket.set(zmq::sockopt::sndhwm, 0);
      socket.connect(endpoint);
      for (int n = 0; n < 500; ++n) {
        zmq_send(socket.handle(), hello.header.data(), hello.header.size(), ZMQ_SNDMORE);
        zmq_send(socket.handle(), hello.payload.data(), hello.payload.size(), 0);
      }
      sockets.push_back(std::move(socket));
    }
  }
}

}  // namespace

TEST_CASE("hostile connections leave nothing behind") {
  if (kSanitized) {
    MESSAGE("skipped: a sanitizer keeps freed memory back");
    return;
  }
  raise_descriptors();
  const ServerProcess server(server_options());
  const auto good = make_client(client_options({server.endpoint()}));
  REQUIRE(good->wait_available(kPatienceUs));
  CHECK(offloads_well(*good, 3));
  const std::string same = greeting("NULL") + ready("same-identity-01");
  const std::string message("\1\1x\0\1y", 6);
  const std::string shaken = greeting("NULL") + ready("");
  const std::vector<Attack> kinds = {
      {"share a routing id, and send", 2'400, same, repeated(message, 1'000)},
      {"unfinished, in small parts", 2'000, shaken, repeated(std::string("\1\1x", 3), 10'000)},
      {"unfinished, in parts", 1'000, shaken, repeated("\1\x5c" + std::string(92, 'p'), 1'000)},
      {"half a greeting", 1'000, greeting("NULL").substr(0, 30), ""},
      {"half a handshake, long", 1'000, greeting("NULL"),
       std::string("\6\0\0\0\0\0\0\3\xff", 9) + std::string(1'000, 'x')},
      {"shaken hands, and silent", 1'000, shaken, ""},
  };
  const std::size_t before_kb = server.memory_kb();
  for (const Attack& kind : kinds) {
    CAPTURE(kind.name);
    attack(server, kind);
    check_memory(server, before_kb, *good);
  }
}

TEST_CASE("hostile connections with CURVE leave nothing behind") {
  if (kSanitized) return;
  raise_descriptors();
  const CurveKeyPair server_keys = *make_curve_keys(), edge_keys = *make_curve_keys();
  ServerOptions options = server_options();
  options.curve =
      CurveServerKeys{server_keys.public_key, server_keys.secret_key, {edge_keys.public_key}};
  Strangers strangers([&](const std::string& endpoint) {
    share_a_routing_id(endpoint, server_keys.public_key, edge_keys);
  });
  const ServerProcess server(options);
  ClientOptions own = client_options({server.endpoint()});
  own.curve = CurveClientKeys{edge_keys.public_key, edge_keys.secret_key, server_keys.public_key};
  const auto good = make_client(own);
  REQUIRE(good->wait_available(kPatienceUs));
  const std::size_t before_kb = server.memory_kb();
  attack(server, {"no keys", 1'000, greeting("NULL") + ready("same"), ""});
  attack(server, {"a broken hello", 1'000, greeting("CURVE"),
                  std::string("\4\xc8\5HELLO", 8) + std::string(194, 'x')});
  check_memory(server, before_kb, *good);
  // With a key that is let in: sockets that share a routing id, and send.
  strangers.run(server.endpoint());
  check_memory(server, before_kb, *good);
}

}  // namespace splitee::transport
