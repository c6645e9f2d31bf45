#include "tools/edge/energy_meter.h"

#include <algorithm>
#include <filesystem>

#include "tools/edge/sysfs.h"

namespace splitee::tools {

namespace fs = std::filesystem;

namespace {

constexpr double kEnoughUs = 100'000;

}  // namespace

std::optional<EnergyMeter> EnergyMeter::find(const std::string& root) {
  std::optional<EnergyMeter> found = find_rapl(root);
  return found ? found : find_sensor(root);
}

// The packages alone: their sub-domains are part of them, "psys" would count them twice.
std::optional<EnergyMeter> EnergyMeter::find_rapl(const std::string& root) {
  EnergyMeter meter;
  meter.source_ = "RAPL";
  for (const fs::path& domain : entries(root + "/sys/class/powercap")) {
    if (!read_word(domain / "name").starts_with("package")) continue;
    const std::optional<double> range = read_number(domain / "max_energy_range_uj");
    const std::optional<double> now = read_number(domain / "energy_uj");
    if (!range || !now) return std::nullopt;
    meter.counters_.push_back({domain / "energy_uj", *range, *now});
  }
  return meter.counters_.empty() ? std::nullopt : std::optional(meter);
}

std::optional<EnergyMeter> EnergyMeter::find_sensor(const std::string& root) {
  for (const fs::path& sensor : entries(root + "/sys/class/hwmon")) {
    EnergyMeter meter;
    meter.source_ = read_word(sensor / "name");
    meter.power_path_ = sensor / "power1_input";
    if (meter.source_.starts_with("ina2") && read_number(meter.power_path_)) return meter;
  }
  return std::nullopt;
}

std::optional<double> EnergyMeter::read_uj(std::int64_t now_us) {
  if (!(power_path_.empty() ? add_counters() : add_power(now_us))) return std::nullopt;
  last_us_ = now_us;
  return total_uj_;
}

bool EnergyMeter::add_counters() {
  std::vector<double> values;
  for (const Counter& counter : counters_) {
    const std::optional<double> now = read_number(counter.path);
    if (!now) return false;
    values.push_back(*now);
  }
  for (std::size_t i = 0; i < counters_.size(); ++i) {
    Counter& counter = counters_[i];
    double drawn = values[i] - counter.last_uj;
    if (drawn < 0) drawn += counter.range_uj;
    if (last_us_) total_uj_ += std::max(0.0, drawn);
    counter.last_uj = values[i];
  }
  return true;
}

bool EnergyMeter::add_power(std::int64_t now_us) {
  const std::optional<double> microwatts = read_number(power_path_);
  if (!microwatts) return false;
  if (last_us_) total_uj_ += *microwatts * 1e-6 * static_cast<double>(now_us - *last_us_);
  return true;
}

void PowerByActivity::begin(std::int64_t now_us) {
  begin_uj_ = meter_.read_uj(now_us);
  begin_us_ = now_us;
}

void PowerByActivity::end(Activity activity, std::int64_t now_us) {
  const std::optional<double> now_uj = meter_.read_uj(now_us);
  if (!begin_uj_ || !now_uj) return;
  uj_[activity] += *now_uj - *begin_uj_;
  us_[activity] += static_cast<double>(now_us - begin_us_);
}

double PowerByActivity::watts(Activity activity) const {
  return us_[activity] > 0 ? uj_[activity] / us_[activity] : 0.0;
}

double PowerByActivity::wait_weight() const {
  if (us_[kComputing] < kEnoughUs || us_[kWaiting] < kEnoughUs) return 1.0;
  const double computing = watts(kComputing);
  return computing > 0 ? std::clamp(watts(kWaiting) / computing, 0.0, 1.0) : 1.0;
}

}  // namespace splitee::tools
