// Built where libmicrohttpd is missing.
#include "tools/http/listener.h"

namespace splitee::tools {

struct HttpListener::Impl {
  std::string url;
};

HttpListener::HttpListener() : impl_(std::make_unique<Impl>()) {}

HttpListener::~HttpListener() = default;

Result<std::unique_ptr<HttpListener>> HttpListener::start(const std::string& flag,
                                                          const std::string&, const HttpLimits&,
                                                          HttpHandler&) {
  return Status(Code::kUnsupported, flag + ": this program was built without libmicrohttpd");
}

const std::string& HttpListener::url() const {
  return impl_->url;
}

void HttpListener::drain(std::chrono::milliseconds) {}

}  // namespace splitee::tools
