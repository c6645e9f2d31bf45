#include "transport/zmq/endpoint.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include <arpa/inet.h>

namespace splitee::transport {
namespace {

constexpr std::string_view kTcp = "tcp://", kIpc = "ipc://", kInproc = "inproc://";

Status wrong(std::string_view endpoint, const std::string& what) {
  return {Code::kInvalidArgument, std::string(endpoint) + ": " + what};
}

bool is_host(std::string_view host) {
  const auto in_name = [](unsigned char c) { return c > ' ' && c != 0x7f && c != '/' && c != ';'; };
  return !host.empty() && std::ranges::all_of(host, in_name) &&
         host.find_first_of("[]") == std::string_view::npos;
}

// The form, whatever the port is.
Status check_form(std::string_view endpoint) {
  if (endpoint.starts_with(kInproc)) {
    return wrong(endpoint, "inproc reaches no other process; use tcp:// or ipc://");
  }
  if (ipc_path(endpoint) || split_tcp(endpoint)) return {};
  std::string message = "'";
  message += endpoint;
  message += "' is not an endpoint such as tcp://127.0.0.1:5555 or ipc:///run/splitee";
  return {Code::kInvalidArgument, message};
}

std::optional<std::uint16_t> port_number(std::string_view port) {
  std::uint16_t number;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size()) return std::nullopt;
  return number;
}

}  // namespace

std::optional<TcpEndpoint> split_tcp(std::string_view endpoint) {
  if (!endpoint.starts_with(kTcp)) return std::nullopt;
  endpoint.remove_prefix(kTcp.size());
  const std::size_t colon = endpoint.rfind(':');
  if (colon == std::string_view::npos || colon + 1 == endpoint.size()) return std::nullopt;
  std::string_view host = endpoint.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  if (!is_host(host)) return std::nullopt;
  return TcpEndpoint{std::string(host), std::string(endpoint.substr(colon + 1))};
}

std::string tcp_endpoint(std::string_view host, std::string_view port) {
  std::string text(kTcp);
  const bool brackets = host.find(':') != std::string_view::npos;
  if (brackets) text += '[';
  text += host;
  if (brackets) text += ']';
  return (text += ':') += port;
}

std::optional<std::string> ipc_path(std::string_view endpoint) {
  if (!endpoint.starts_with(kIpc) || endpoint.size() == kIpc.size()) return std::nullopt;
  return std::string(endpoint.substr(kIpc.size()));
}

bool is_loopback_endpoint(std::string_view endpoint) {
  if (ipc_path(endpoint)) return true;
  const std::optional<TcpEndpoint> tcp = split_tcp(endpoint);
  if (!tcp) return false;
  if (tcp->host == "localhost" || tcp->host == "::1") return true;
  in_addr address;
  if (inet_pton(AF_INET, tcp->host.c_str(), &address) != 1) return false;
  return (ntohl(address.s_addr) >> 24) == 127;
}

Status check_endpoint(std::string_view endpoint) {
  if (Status status = check_form(endpoint); !status.ok()) return status;
  const std::optional<TcpEndpoint> tcp = split_tcp(endpoint);
  if (!tcp) return {};
  if (port_number(tcp->port).value_or(0) == 0) return wrong(endpoint, "no such port");
  if (tcp->host == "*") return wrong(endpoint, "* is a host to listen on, not to connect to");
  return {};
}

Status check_bind_endpoint(std::string_view endpoint) {
  if (Status status = check_form(endpoint); !status.ok()) return status;
  const std::optional<TcpEndpoint> tcp = split_tcp(endpoint);
  if (!tcp || tcp->port == "*" || port_number(tcp->port)) return {};
  return wrong(endpoint, "no such port");
}

}  // namespace splitee::transport
