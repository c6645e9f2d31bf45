// The link's round trip and bandwidth from planted links: clean, noisy, with outliers, queueing,
// changing.
#include "policy/measure/link_estimator.h"

#include <algorithm>
#include <cmath>

#include <doctest/doctest.h>

#include "base/rng.h"
#include "policy/measure/link_costs.h"

namespace splitee::policy {
namespace {

struct PlantedLink {
  double rtt_us, us_per_byte;
  double noise = 0.0;     // share of the time, added at random
  double outliers = 0.0;  // share of requests that take ten times as long
};

constexpr double kMbit = 8.0;  // us per byte at 1 Mbit/s

// Sends one request after the other, each when the one before was answered.
void send(LinkEstimator& estimator, const PlantedLink& link, Rng& rng, int requests,
          std::uint64_t small, std::uint64_t large, std::int64_t& clock_us) {
  for (int i = 0; i < requests; ++i) {
    const std::uint64_t bytes = i % 2 == 0 ? small : large;
    double us = link.rtt_us + static_cast<double>(bytes) * link.us_per_byte;
    us *= 1.0 + link.noise * rng.uniform();
    if (rng.uniform() < link.outliers) us *= 10.0;
    estimator.add(clock_us, std::llround(us), bytes);
    clock_us += std::llround(us) + 500;
  }
}

void check_near(const LinkEstimator& estimator, const PlantedLink& link, double share) {
  for (const double bytes : {300.0, 5'000.0, 20'000.0}) {
    CAPTURE(bytes);
    const double truth = link.rtt_us + bytes * link.us_per_byte;
    CHECK(std::abs(estimator.expected_us(bytes) - truth) < share * truth);
  }
}

const PlantedLink kLinks[] = {
    {1'000, kMbit / 100}, {10'000, kMbit / 20}, {40'000, kMbit / 5}, {200'000, kMbit / 0.5}};

}  // namespace

TEST_CASE("nothing is known before the first request") {
  const LinkEstimator estimator;
  CHECK_FALSE(estimator.known());
  CHECK_FALSE(estimator.bandwidth_known());
  CHECK(estimator.expected_us(0) == 0.0);
}

TEST_CASE("a link without noise is found") {
  for (const PlantedLink& link : kLinks) {
    LinkEstimator estimator;
    Rng rng(1);
    std::int64_t clock_us = 5'000'000;
    send(estimator, link, rng, 20, 200, 16'000, clock_us);
    CHECK(estimator.bandwidth_known());
    check_near(estimator, link, 0.02);
    CHECK(estimator.rtt_us() == doctest::Approx(link.rtt_us).epsilon(0.02));
    CHECK(estimator.us_per_byte() == doctest::Approx(link.us_per_byte).epsilon(0.02));
  }
}

TEST_CASE("noise and single outliers move it little") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    for (PlantedLink link : kLinks) {
      link.noise = 0.1;
      link.outliers = 0.03;
      LinkEstimator estimator;
      Rng rng(seed);
      std::int64_t clock_us = 0;
      send(estimator, link, rng, 200, 200, 16'000, clock_us);
      link.rtt_us *= 1.05;  // the noise's mean
      link.us_per_byte *= 1.05;
      check_near(estimator, link, 0.25);
    }
  }
}

TEST_CASE("another link is noticed within a dozen requests, both ways") {
  for (const auto& [from, to] : {std::pair(kLinks[0], kLinks[3]), std::pair(kLinks[3], kLinks[0]),
                                 std::pair(kLinks[1], kLinks[2])}) {
    LinkEstimator estimator;
    Rng rng(3);
    std::int64_t clock_us = 0;
    send(estimator, from, rng, 100, 200, 16'000, clock_us);
    const std::uint64_t before = estimator.changes();
    send(estimator, to, rng, 12, 200, 16'000, clock_us);
    CHECK(estimator.changes() > before);
    check_near(estimator, to, 0.1);
  }
}

TEST_CASE("two early answers mean a better link, one or three late ones no worse one") {
  const auto settled = [](std::int64_t& clock_us) {
    LinkEstimator estimator;
    Rng rng(4);
    send(estimator, kLinks[2], rng, 50, 200, 200, clock_us);
    return estimator;
  };
  std::int64_t clock_us = 0;
  LinkEstimator better = settled(clock_us);
  for (const std::uint64_t changes : {0u, 1u}) {
    better.add(clock_us += 100'000, 10'000, 200);
    CHECK(better.changes() == changes);
  }
  CHECK(better.expected_us(200) == doctest::Approx(10'000).epsilon(0.01));
  LinkEstimator worse = settled(clock_us);
  for (const std::uint64_t changes : {0u, 0u, 0u, 1u}) {
    worse.add(clock_us += 500'000, 300'000, 200);
    CHECK(worse.changes() == changes);
  }
  CHECK(worse.expected_us(200) == doctest::Approx(300'000).epsilon(0.01));
}

TEST_CASE("requests of one size leave the bandwidth as it was known") {
  LinkEstimator estimator;
  Rng rng(5);
  std::int64_t clock_us = 0;
  PlantedLink link = kLinks[2];
  send(estimator, link, rng, 20, 200, 16'000, clock_us);
  link.noise = 0.05;
  send(estimator, link, rng, 1'000, 200, 230, clock_us);
  CHECK(estimator.us_per_byte() == doctest::Approx(link.us_per_byte).epsilon(0.2));
}

TEST_CASE("requests that queue on the link do not make it look slow") {
  // Eight at once, again and again: the bytes follow each other, the answers come one by one.
  const PlantedLink link = kLinks[2];
  LinkEstimator estimator;
  std::int64_t clock_us = 0;
  for (int round = 0; round < 20; ++round) {
    double free_us = 0;
    for (int i = 0; i < 8; ++i) {
      const std::uint64_t bytes = i % 2 == 0 ? 200 : 16'000;
      free_us += static_cast<double>(bytes) * link.us_per_byte;
      estimator.add(clock_us, std::llround(free_us + link.rtt_us), bytes);
    }
    clock_us += std::llround(free_us + link.rtt_us) + 1'000;
  }
  check_near(estimator, link, 0.1);
}

TEST_CASE("strange times do no harm") {
  LinkEstimator estimator;
  for (const std::int64_t sent :
       {std::int64_t{0}, std::int64_t{1'000}, std::int64_t{-5}, std::int64_t{1} << 60}) {
    for (const std::int64_t link :
         {std::int64_t{0}, std::int64_t{-7}, std::int64_t{3'600'000'000}}) {
      for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{1} << 28}) {
        estimator.add(sent, link, bytes);
        CHECK(std::isfinite(estimator.expected_us(1'000)));
        CHECK(estimator.rtt_us() >= 0.0);
        CHECK(estimator.us_per_byte() >= 0.0);
      }
    }
  }
}

TEST_CASE("measured times become lambda and o") {
  LinkCosts costs;
  CHECK_FALSE(costs.known());
  using Part = LinkCosts::Part;
  costs.add_work(Part::kExit, 4, 1'600.0);  // 400 us an exit with its part of a layer
  CHECK_FALSE(costs.work_known());
  costs.add_work(Part::kRest, 2, 1'200.0);  // 600 us the rest
  CHECK(costs.work_known());
  CHECK(costs.unit_us() == doctest::Approx(1'000.0));
  CHECK_FALSE(costs.known());
  for (int i = 0; i < 10; ++i) costs.add_offload(i * 100'000, 3'000, 300, 10, 1'000.0);
  REQUIRE(costs.known());
  CHECK(costs.server_layer_us() == doctest::Approx(100.0));
  const double link_us = costs.link().expected_us(300);
  CHECK(link_us == doctest::Approx(3'000.0));
  CHECK(costs.offload_us(300, 4) == doctest::Approx(3'400.0));
  CostModel model{.lambda1 = 0.1, .lambda2 = 0.0, .offload = 0.5};
  const double offload_us[] = {4'000.0, 2'000.0, 500.0};
  costs.price(offload_us, 1.0, model);
  CHECK(model.lambda1 == doctest::Approx(0.1));
  CHECK(model.cost(3, 1, false) == doctest::Approx(0.24));  // 2 layers and an exit
  costs.add_work(Part::kLayer, 10, 8'000.0);
  costs.add_work(Part::kHead, 10, 2'000.0);  // 800 us a layer, 200 us a head
  costs.price(offload_us, 1.0, model);
  CHECK(model.lambda1 == doctest::Approx(0.08));
  CHECK(model.lambda2 == doctest::Approx(0.02));
  CHECK(model.cost(3, 1, false) == doctest::Approx(0.20));  // 2 * 800 + 400 us
  CHECK(model.cost(3, 3, false) == doctest::Approx(0.24));  // 2 * 1000 + 400 us
  CHECK(model.offload_from(0) == doctest::Approx(0.4));
  CHECK(model.offload_from(1) == doctest::Approx(0.2));
  CHECK(model.offload_from(2) == doctest::Approx(0.05));
  costs.price(offload_us, 0.25, model);  // waiting draws a quarter of the power
  CHECK(model.offload_from(0) == doctest::Approx(0.1));
  CHECK(model.lambda1 == doctest::Approx(0.08));
}

TEST_CASE("what offloads told is trusted less with every sample that sends none") {
  LinkCosts costs;
  costs.add_offload(0, 10'000, 200, 10, 50'000.0);  // a server that was cold
  const double rtt_us = costs.link().rtt_us();
  const double rest_us = costs.offload_us(200, 10) - rtt_us;
  CHECK(rest_us > 49'999.0);
  for (int i = 0; i < 10; ++i) costs.add_sample();
  CHECK(costs.offload_us(200, 10) - rtt_us == doctest::Approx(rest_us / 2));
  for (int i = 0; i < 20; ++i) costs.add_sample();
  CHECK(costs.offload_us(200, 10) - rtt_us == doctest::Approx(rest_us / 8));
  for (int i = 1; i <= 60; ++i) costs.add_offload(i * 100'000, 10'000, 200, 10, 1'000.0);
  CHECK(costs.offload_us(200, 10) == doctest::Approx(11'000).epsilon(0.01));  // as seen, at once
  for (int i = 0; i < 100; ++i) costs.add_sample();
  CHECK(costs.offload_us(200, 10) == doctest::Approx(10'500).epsilon(0.01));
}

TEST_CASE("one slow answer of a server counts for four at the most") {
  LinkCosts costs;
  for (int i = 0; i < 60; ++i) costs.add_offload(i * 100'000, 10'000, 200, 10, 1'000.0);
  costs.add_offload(6'000'000, 10'000, 200, 10, 1'000'000.0);
  CHECK(costs.server_layer_us() < 140.0);  // a tenth of it weighs
  CHECK(costs.server_layer_us() > 120.0);
}

}  // namespace splitee::policy
