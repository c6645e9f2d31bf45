// Built where libmicrohttpd is missing.
#include "tools/metrics.h"

namespace splitee::tools {

struct MetricsServer::Impl {
  std::string url;
};

MetricsServer::MetricsServer() : impl_(std::make_unique<Impl>()) {}

MetricsServer::~MetricsServer() = default;

runtime::Result<std::unique_ptr<MetricsServer>> MetricsServer::start(
    const std::string&, const transport::ServerCounters&) {
  return runtime::Status(runtime::Code::kUnsupported,
                         "--metrics: this program was built without libmicrohttpd");
}

const std::string& MetricsServer::url() const {
  return impl_->url;
}

void MetricsServer::set_draining() noexcept {}

}  // namespace splitee::tools
