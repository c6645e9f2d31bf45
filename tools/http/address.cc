#include "tools/http/address.h"

#include <algorithm>
#include <optional>

#include <arpa/inet.h>
#include <strings.h>

#include "base/file.h"
#include "tools/common/console.h"
#include "transport/zmq/endpoint.h"

namespace splitee::tools {

namespace {

constexpr std::size_t kMinTokenBytes = 16, kMaxTokenBytes = 512;

bool is_address(std::string_view host) {
  unsigned char bytes[16];
  const std::string text(host);
  if (text.find('\0') != std::string::npos) return false;
  return ::inet_pton(AF_INET, text.c_str(), bytes) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

}  // namespace

Result<HostPort> parse_host_port(const std::string& flag, const std::string& text) {
  const std::string endpoint = "tcp://" + text;
  const std::optional<transport::TcpEndpoint> parts = transport::split_tcp(endpoint);
  // To be listened on, but not at "any port" in ZeroMQ's way.
  if (!transport::check_bind_endpoint(endpoint).ok() || parts->port == "*") {
    return Status(Code::kInvalidArgument, flag + " " + text + ": not HOST:PORT");
  }
  return HostPort{parts->host, std::stoi(parts->port)};
}

bool is_loopback_host(std::string_view host) {
  return transport::is_loopback_endpoint(transport::tcp_endpoint(host, "1"));
}

std::string_view host_of(std::string_view host_header) {
  if (host_header.starts_with('[')) {
    const std::size_t end = host_header.find(']');
    return end == std::string_view::npos ? host_header : host_header.substr(1, end - 1);
  }
  return host_header.substr(0, host_header.rfind(':'));
}

bool is_fixed_host(std::string_view host) {
  static constexpr std::string_view kLocal = "localhost";
  const bool local =
      host.size() == kLocal.size() && ::strncasecmp(host.data(), kLocal.data(), kLocal.size()) == 0;
  return local || is_address(host);
}

bool is_from_browser(const HttpRequest& request) {
  return !request.header("Origin").empty() || !request.header("Sec-Fetch-Site").empty();
}

bool is_cross_origin(const HttpRequest& request) {
  const std::string site = request.header("Sec-Fetch-Site");
  if (!site.empty() && site != "same-origin" && site != "none") return true;
  const std::string origin = request.header("Origin");
  if (origin.empty()) return false;
  const std::size_t scheme = origin.find("://");
  return scheme == std::string::npos || origin.substr(scheme + 3) != request.header("Host");
}

bool equal_secret(std::string_view given, std::string_view wanted) {
  unsigned difference = given.size() == wanted.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const char other = wanted.empty() ? '\0' : wanted[i % wanted.size()];
    difference |= static_cast<unsigned>(static_cast<unsigned char>(given[i] ^ other));
  }
  return difference == 0;
}

Result<std::string> read_token(const std::string& path) {
  Result<std::string> content = read_file(path, 2 * kMaxTokenBytes);
  if (!content.ok()) return not_usage(content.status());
  std::string token = std::move(*content);
  while (token.ends_with('\n') || token.ends_with('\r')) token.pop_back();
  const bool printable = std::ranges::all_of(token, [](char c) { return c > ' ' && c < '\x7f'; });
  if (!printable || token.size() < kMinTokenBytes || token.size() > kMaxTokenBytes) {
    return Status(Code::kCorrupt,
                  path + ": not a token: one line of 16 to 512 printable characters, no spaces");
  }
  return token;
}

}  // namespace splitee::tools
