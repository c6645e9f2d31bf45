// HOST:PORT of a listener, and what the headers of a browser say of where a request comes from.
// Thread rule: pure functions. Errors: kInvalidArgument, naming the flag.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "tools/http/exchange.h"

namespace splitee::tools {

struct HostPort {
  std::string host;  // without the brackets of an IPv6 address
  int port = 0;
};
Result<HostPort> parse_host_port(const std::string& flag, const std::string& text);

// Whether only this machine can connect: localhost, 127.0.0.0/8 and ::1.
bool is_loopback_host(std::string_view host);

// Host of a Host header, without its port and brackets.
std::string_view host_of(std::string_view host_header);
// Whether a name that a page elsewhere may have pointed at this machine (DNS rebinding) is ruled
// out: localhost, or an address in digits.
bool is_fixed_host(std::string_view host);

// Whether a page of another origin may have made the request. Programs send neither of the headers
// that say so.
bool is_cross_origin(const HttpRequest& request);
// Whether a browser made it.
bool is_from_browser(const HttpRequest& request);

// Equal, in a time that does not tell where they differ.
bool equal_secret(std::string_view given, std::string_view wanted);

// The one line of a token file: 16 to 512 printable characters without spaces.
Result<std::string> read_token(const std::string& path);

}  // namespace splitee::tools
