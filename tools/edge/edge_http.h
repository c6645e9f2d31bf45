// splitee-edge behind HTTP: rows of requests become samples of the edge loop, one after the other,
// and its records their answers. The figures of the live page and the metrics are made between two
// samples, by the loop's own thread, so that they are of one moment.
// Thread rule: all but what InferBackend asks for by the thread of the edge loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "policy/policy.h"
#include "runtime/network.h"
#include "tools/common/sample_reader.h"
#include "tools/edge/edge_loop.h"
#include "tools/edge/live_figures.h"
#include "tools/edge/summary.h"
#include "tools/http/service.h"

namespace splitee::tools {

class EdgeHttp final : private InferBackend {
 public:
  static Result<std::unique_ptr<EdgeHttp>> start(const HttpFlags& flags,
                                                 std::shared_ptr<const runtime::Network> network);
  ~EdgeHttp() override;

  const std::string& url() const { return service_->url(); }
  // Readable once something waits that did not wait at the last call of clear_fd().
  int fd() const { return fd_; }
  void clear_fd();

  // Fills id and input with the next row; false where none waits. started() or refused() comes
  // next.
  bool next(Sample& sample);
  void started();
  void refused(const Status& status);
  // In the order in which they were started.
  void answered(const Finished& finished, std::span<const float> confidences,
                const LiveFigures::Moment& moment);

  bool figures_wanted() const;
  void answer_figures(const Summary& summary, const LiveFigures::Moment& moment);

  // Rows that were not started are refused; answers that are made get a moment to leave.
  void close();
  void drain();

 private:
  explicit EdgeHttp(std::shared_ptr<const runtime::Network> network);
  std::shared_ptr<const ServedNetwork> served() const override { return served_; }
  bool submit(std::shared_ptr<InferJob> job) override;
  void figures(Figures which, std::function<void(std::string)> done) override;
  void wake() const;

  const std::shared_ptr<const ServedNetwork> served_;
  const int fd_;
  RowQueue queue_;
  LiveFigures live_;
  std::uint64_t next_id_ = 0;
  JobRow at_hand_;
  std::deque<JobRow> in_progress_;
  mutable std::mutex mutex_;
  std::vector<std::pair<Figures, std::function<void(std::string)>>> waiting_figures_;
  std::unique_ptr<HttpService> service_;
};

}  // namespace splitee::tools
