// What the link to the server is like, from what requests took: an online fit of
//   link time = round trip + bytes / bandwidth
// by least squares over the recent requests (each counts 5 % less with every later one).
//  - A time far off the prediction counts only as far as is usual; several on the same side (four
//    that are late, or two that are early, which chance hardly makes), with few good ones between
//    them, mean another link: then the older ones are forgotten.
//  - Requests of nearly one size say nothing about the bandwidth: it stays as last known.
//  - Of requests that queued behind each other on the link only the own time counts: it begins when
//    the one before was through.
// Pure: no clock; times are passed in, microseconds. Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

namespace splitee::policy {

class LinkEstimator {
 public:
  // Sent at `sent_us` on any clock; `link_us`: from then to the answer, less the server's own time.
  void add(std::int64_t sent_us, std::int64_t link_us, std::uint64_t bytes);

  bool known() const { return weight_ > 0.0; }
  // Whether requests of different sizes were seen since the link last changed.
  bool bandwidth_known() const { return bandwidth_known_; }
  // 0 before anything is known but for a bandwidth of 100 Mbit/s.
  double expected_us(double bytes) const { return rtt_us_ + bytes * us_per_byte_; }
  double rtt_us() const { return rtt_us_; }
  double us_per_byte() const { return us_per_byte_; }
  // Times that the link was found to have changed.
  std::uint64_t changes() const { return changes_; }

 private:
  struct Point {
    double bytes, us;
  };

  double own_time(std::int64_t sent_us, std::int64_t link_us);
  bool predictable(double bytes) const;
  double within_usual(const Point& point);
  void start_again();
  void learn(const Point& point);
  void fit();

  double weight_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;  // sums over the requests, fading
  double rtt_us_ = 0, us_per_byte_ = 0.08;
  double anchor_us_per_byte_ = 0.08;  // last known well
  bool bandwidth_known_ = false;
  double usual_error_us_ = 0;
  std::vector<Point> outliers_;  // of late, on the same side
  bool outliers_above_ = false;
  int good_ = 0;  // since the last outlier
  bool any_end_ = false;
  std::int64_t last_end_us_ = 0;
  std::uint64_t changes_ = 0;
};

}  // namespace splitee::policy
