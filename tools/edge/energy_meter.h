// The energy that this machine draws, where it tells: RAPL counters of the processor packages
// (Linux powercap; often readable by root only), or else an INA2xx sensor of the board (hwmon).
// Thread rule: one thread at a time. Errors: what cannot be read is nothing, never an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace splitee::tools {

class EnergyMeter {
 public:
  // Looks under ROOT/sys/class/powercap and ROOT/sys/class/hwmon. Nothing where neither can be
  // read.
  static std::optional<EnergyMeter> find(const std::string& root = "");

  // For messages: "RAPL", or the sensor's name.
  const std::string& source() const { return source_; }
  // Microjoules drawn since the first call; nothing where a reading fails. A sensor that tells
  // power is taken to have drawn it since the last call. `now_us`: of any monotonic clock.
  std::optional<double> read_uj(std::int64_t now_us);

 private:
  // A RAPL domain: counts up to its range, then from 0 again.
  struct Counter {
    std::string path;
    double range_uj = 0, last_uj = 0;
  };

  EnergyMeter() = default;
  static std::optional<EnergyMeter> find_rapl(const std::string& root);
  static std::optional<EnergyMeter> find_sensor(const std::string& root);
  bool add_counters();
  bool add_power(std::int64_t now_us);

  std::string source_;
  std::vector<Counter> counters_;
  std::string power_path_;  // microwatts
  std::optional<std::int64_t> last_us_;
  double total_uj_ = 0;
};

// Mean power while computing and while waiting.
class PowerByActivity {
 public:
  enum Activity { kComputing, kWaiting };

  explicit PowerByActivity(EnergyMeter meter) : meter_(std::move(meter)) {}

  // Around each stretch of one activity.
  void begin(std::int64_t now_us);
  void end(Activity activity, std::int64_t now_us);

  double watts(Activity activity) const;
  // Power while waiting over power while computing, 0 to 1; 1 before both were measured for a tenth
  // of a second.
  double wait_weight() const;
  const EnergyMeter& meter() const { return meter_; }

 private:
  EnergyMeter meter_;
  std::optional<double> begin_uj_;
  std::int64_t begin_us_ = 0;
  double uj_[2] = {}, us_[2] = {};
};

}  // namespace splitee::tools
