// Addresses as users and browsers write them: endpoints of ZeroMQ, HOST:PORT, Host headers. Every
// reader gets the whole input.
#include <algorithm>
#include <charconv>

#include "tests/fuzz/fuzz.h"
#include "tools/http/address.h"
#include "transport/zmq/endpoint.h"
#include "transport/zmq/resolver.h"

using namespace splitee;
using namespace splitee::transport;
using splitee::fuzz::require;

namespace {

constexpr int kMaxPort = 65535;

bool holds(std::string_view text, std::string_view characters) {
  return text.find_first_of(characters) != std::string_view::npos;
}

bool consists_of(std::string_view text, std::string_view characters) {
  return text.find_first_not_of(characters) == std::string_view::npos;
}

// Of digits alone; -1 where it is something else or beyond a port.
int port_of(std::string_view text) {
  int port = -1;
  if (!consists_of(text, "0123456789")) return -1;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), port);
  return problem == std::errc() && port <= kMaxPort ? port : -1;
}

void check_host(std::string_view host) {
  require(!host.empty() && !holds(host, "[]/; \t\r\n"));
  require(host.find('\0') == std::string_view::npos);
}

void check_parts(std::string_view endpoint) {
  const std::optional<TcpEndpoint> tcp = split_tcp(endpoint);
  const std::optional<std::string> path = ipc_path(endpoint);
  require(!tcp || !path);
  if (path) require(!path->empty() && "ipc://" + *path == endpoint);
  if (tcp) {
    check_host(tcp->host);
    require(!tcp->port.empty());
    const std::optional<TcpEndpoint> again = split_tcp(tcp_endpoint(tcp->host, tcp->port));
    require(again && again->host == tcp->host && again->port == tcp->port);
  }
  if (!is_loopback_endpoint(endpoint)) return;
  require(path || tcp);
  require(path || tcp->host == "localhost" || tcp->host == "::1" ||
          (tcp->host.starts_with("127.") && consists_of(tcp->host, "0123456789.")));
}

void check_refusal(const Status& status, std::string_view text) {
  require(status.code() == Code::kInvalidArgument);
  require(status.message().find(text) != std::string::npos);
}

void check_endpoints(const std::string& endpoint) {
  check_parts(endpoint);
  const std::optional<TcpEndpoint> tcp = split_tcp(endpoint);
  const Status bind = check_bind_endpoint(endpoint), connect = check_endpoint(endpoint);
  if (bind.ok()) {
    require(tcp || ipc_path(endpoint));
    require(!tcp || tcp->port == "*" || port_of(tcp->port) >= 0);
  } else {
    check_refusal(bind, endpoint);
  }
  if (connect.ok()) {
    require(bind.ok());
    require(!tcp || (port_of(tcp->port) > 0 && tcp->host != "*"));
    // Nothing is looked up where it is numeric.
    if (is_numeric_endpoint(endpoint) && tcp) {
      const Addresses addresses = resolve_now(*tcp);
      require(addresses.ok());
      for (const std::string& address : *addresses) require(check_endpoint(address).ok());
    }
  } else {
    check_refusal(connect, endpoint);
  }
}

void check_host_port(const std::string& text) {
  const auto address = tools::parse_host_port("--flag", text);
  const std::optional<TcpEndpoint> tcp = split_tcp("tcp://" + text);
  require(address.ok() == (tcp && port_of(tcp->port) >= 0));
  if (!address.ok()) return check_refusal(address.status(), "--flag " + text + ": ");
  check_host(address->host);
  require(address->host == tcp->host && address->port == port_of(tcp->port));
  const std::string written = tcp_endpoint(address->host, std::to_string(address->port));
  const auto again = tools::parse_host_port("--flag", written.substr(written.find("//") + 2));
  require(again.ok() && again->host == address->host && again->port == address->port);
  require(tools::is_loopback_host(address->host) == is_loopback_endpoint("tcp://" + text));
}

// Names have no case.
bool is_localhost(std::string_view name) {
  return std::ranges::equal(name, std::string_view("localhost"), [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
  });
}

void check_host_header(std::string_view header) {
  const std::string_view host = tools::host_of(header);
  require(host.size() <= header.size() && header.find(host) != std::string_view::npos);
  for (const std::string_view name : {header, host}) {
    if (!tools::is_fixed_host(name)) continue;
    const bool local = is_localhost(name);
    require(local || consists_of(name, "0123456789abcdefABCDEF.:"));
    require(local || holds(name, ".:"));
  }
}

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  return {"",
          "tcp://127.0.0.1:5555",
          "tcp://[::1]:65535",
          "tcp://[fe80::1%lo]:1",
          "tcp://localhost:00080",
          "tcp://*:*",
          "tcp://host.example:65536",
          "tcp://127.0.0.1:1;127.0.0.1:2",
          "ipc:///run/splitee",
          "inproc://name",
          "0.0.0.0:8080",
          "[::]:0",
          "localhost:-0",
          "[[::1]]:80",
          std::string("127.0.0.1\0.example:80", 21),
          "10.0.0.1",
          "LocalHost:80",
          "::1"};
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(fuzz::text_of(data, size));
  check_endpoints(text);
  check_endpoints("tcp://" + text);
  check_host_port(text);
  check_host_header(text);
  return 0;
}
