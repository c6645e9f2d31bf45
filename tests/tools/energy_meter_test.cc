// Energy from trees of files as Linux shows them.
#include "tools/edge/energy_meter.h"

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "policy/measure/link_costs.h"
#include "tests/base/temp_folder.h"

namespace splitee::tools {
namespace {

namespace fs = std::filesystem;
using Power = PowerByActivity;

// A root folder with files that tell what a test wants.
class FakeRoot {
 public:
  std::string root() const { return folder_.path(); }
  void set(const std::string& path, const std::string& content) {
    const fs::path file = fs::path(root()) / "sys/class" / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << content << "\n";
  }
  void add_package(const std::string& domain, const std::string& name, const std::string& uj) {
    set("powercap/" + domain + "/name", name);
    set("powercap/" + domain + "/max_energy_range_uj", "1000000");
    set("powercap/" + domain + "/energy_uj", uj);
  }

 private:
  testing::TempFolder folder_;
};

}  // namespace

TEST_CASE("a machine that tells nothing has no meter") {
  FakeRoot fake;
  CHECK_FALSE(EnergyMeter::find(fake.root()));
  CHECK_FALSE(EnergyMeter::find(fake.root() + "/no/such/folder"));
  fake.set("hwmon/hwmon0/name", "coretemp");
  fake.set("hwmon/hwmon0/power1_input", "5");
  fake.set("hwmon/hwmon1/name", "ina226");  // no reading
  fake.set("powercap/dtpm/name", "dtpm");
  CHECK_FALSE(EnergyMeter::find(fake.root()));
  fake.set("hwmon/hwmon1/power1_input", "nonsense");
  CHECK_FALSE(EnergyMeter::find(fake.root()));
}

TEST_CASE("RAPL packages are added up, their parts are not, and counters wrap") {
  FakeRoot fake;
  fake.add_package("intel-rapl:0", "package-0", "100");
  fake.add_package("intel-rapl:0:0", "core", "50");
  fake.add_package("intel-rapl:1", "package-1", "999000");
  fake.add_package("intel-rapl:2", "psys", "7");
  auto meter = EnergyMeter::find(fake.root());
  REQUIRE(meter);
  CHECK(meter->source() == "RAPL");
  CHECK(meter->read_uj(0) == 0.0);
  fake.set("powercap/intel-rapl:0/energy_uj", "400");
  fake.set("powercap/intel-rapl:0:0/energy_uj", "350");
  fake.set("powercap/intel-rapl:1/energy_uj", "2000");  // 3,000 on, over the end
  CHECK(meter->read_uj(1'000) == 3'300.0);
  CHECK(meter->read_uj(2'000) == 3'300.0);
  fs::remove(fake.root() + "/sys/class/powercap/intel-rapl:1/energy_uj");
  CHECK_FALSE(meter->read_uj(3'000));
}

TEST_CASE("an INA2xx sensor's power is summed over time") {
  FakeRoot fake;
  fake.set("hwmon/hwmon0/name", "nvme");
  fake.set("hwmon/hwmon3/name", "ina219");
  fake.set("hwmon/hwmon3/power1_input", "2000000");  // 2 W
  auto meter = EnergyMeter::find(fake.root());
  REQUIRE(meter);
  CHECK(meter->source() == "ina219");
  CHECK(meter->read_uj(1'000'000) == 0.0);
  CHECK(*meter->read_uj(1'500'000) == doctest::Approx(1e6));
  fake.set("hwmon/hwmon3/power1_input", "4000000");
  CHECK(*meter->read_uj(2'000'000) == doctest::Approx(3e6));
}

TEST_CASE("power is told apart by activity") {
  FakeRoot fake;
  fake.set("hwmon/hwmon0/name", "ina226");
  fake.set("hwmon/hwmon0/power1_input", "4000000");
  Power power(*EnergyMeter::find(fake.root()));
  CHECK(power.wait_weight() == 1.0);
  power.begin(0);
  power.end(Power::kComputing, 200'000);
  CHECK(power.watts(Power::kComputing) == doctest::Approx(4.0));
  CHECK(power.wait_weight() == 1.0);  // nothing is known of waiting
  fake.set("hwmon/hwmon0/power1_input", "1000000");
  power.begin(200'000);
  power.end(Power::kWaiting, 400'000);
  CHECK(power.watts(Power::kWaiting) == doctest::Approx(1.0));
  CHECK(power.wait_weight() == doctest::Approx(0.25));
  // A failed reading is left out.
  fs::remove(fake.root() + "/sys/class/hwmon/hwmon0/power1_input");
  power.begin(400'000);
  power.end(Power::kWaiting, 900'000);
  CHECK(power.watts(Power::kWaiting) == doctest::Approx(1.0));
}

TEST_CASE("an offload costs in lambda its joules over those of a layer") {
  FakeRoot fake;
  fake.add_package("intel-rapl:0", "package-0", "900000");
  Power power(*EnergyMeter::find(fake.root()));
  // 100 layers of 2 ms at 4 W: 0.008 J each. The counter wraps on the way.
  power.begin(0);
  fake.set("powercap/intel-rapl:0/energy_uj", "700000");
  power.end(Power::kComputing, 200'000);
  power.begin(200'000);
  fake.set("powercap/intel-rapl:0/energy_uj", "200000");  // 0.5 J, 1 W, for half a second
  power.end(Power::kWaiting, 700'000);
  policy::LinkCosts measured;
  measured.add_work(policy::LinkCosts::kLayer, 100, 190'000.0);
  measured.add_work(policy::LinkCosts::kHead, 100, 10'000.0);
  measured.add_work(policy::LinkCosts::kExit, 100, 50'000.0);
  const double offload_us[] = {50'000.0};
  policy::CostModel costs{.lambda1 = 0.1};
  measured.price(offload_us, power.wait_weight(), costs);
  CHECK(costs.lambda() == doctest::Approx(0.1));
  // 50 ms at 1 W are 0.05 J.
  CHECK(costs.offload_from(0) / costs.lambda() == doctest::Approx(0.05 / 0.008));
}

}  // namespace splitee::tools
