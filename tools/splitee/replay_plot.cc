#include "tools/splitee/replay_plot.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include <fmt/format.h>

#include "policy/replay/simple_rules.h"

namespace splitee::tools {
namespace {

using policy::PolicyInfo;
using policy::ReplayOptions;
using policy::ReplayResult;

constexpr double kWidth = 760, kHeight = 420, kLeft = 70, kRight = 190, kTop = 20, kBottom = 50;
constexpr double kAlphas[] = {0.6, 0.7, 0.8, 0.9, 0.95, 0.99};
constexpr double kLimits[] = {0.002, 0.005, 0.01, 0.02, 0.05, 0.1};
constexpr std::size_t kNamed = 8;  // curves with a colour of their own; the others are grey

struct Spot {
  double x = 0, y = 0;
  std::string what;
};
struct Curve {
  std::string name;
  std::vector<Spot> spots;
};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  }
  return out;
}

// A step of 1, 2 or 5 times a power of ten that divides `range` into about five.
double tick_step(double range) {
  const double power = std::pow(10.0, std::floor(std::log10(range / 5.0)));
  for (const double digit : {1.0, 2.0, 5.0}) {
    if (range / (digit * power) <= 6.0) return digit * power;
  }
  return 10.0 * power;
}

// Axes from 0 (or `least_y`), curves in the order given.
class Chart {
 public:
  Chart(double most_x, double least_y, double most_y)
      : most_x_(most_x > 0 ? most_x : 1), least_y_(least_y), most_y_(most_y) {
    if (!(most_y_ > least_y_)) most_y_ = least_y_ + 1;
  }

  void axes(const std::string& x_label, const std::string& y_label) {
    const double right = kWidth - kRight, bottom = kHeight - kBottom;
    line("axis", kLeft, bottom, right, bottom);
    line("axis", kLeft, kTop, kLeft, bottom);
    const double step_x = tick_step(most_x_), step_y = tick_step(most_y_ - least_y_);
    for (double x = 0; x <= most_x_ * 1.0001; x += step_x) {
      line("grid", at_x(x), kTop, at_x(x), bottom);
      text(at_x(x), bottom + 18, "middle", fmt::format("{:g}", x));
    }
    for (double y = std::ceil(least_y_ / step_y) * step_y; y <= most_y_ * 1.0001; y += step_y) {
      line("grid", kLeft, at_y(y), right, at_y(y));
      text(kLeft - 8, at_y(y) + 4, "end", fmt::format("{:g}", y));
    }
    text((kLeft + right) / 2, kHeight - 10, "middle", x_label);
    add("<text class=\"label\" text-anchor=\"middle\" transform=\"translate(16 {:.1f}) "
        "rotate(-90)\">{}</text>\n",
        (kTop + bottom) / 2, escaped(y_label));
  }

  // `index`: colour; curves beyond kNamed are grey and have no entry in the legend.
  void curve(const Curve& curve, std::size_t index, bool dots) {
    std::string points;
    for (const Spot& spot : curve.spots) {
      if (spot.x > most_x_) continue;
      points += fmt::format("{:.1f},{:.1f} ", at_x(spot.x), at_y(spot.y));
    }
    const std::string kind = index < kNamed ? fmt::format("c{}", index) : "other";
    add("<g class=\"{}\"><title>{}</title><polyline points=\"{}\"/>\n", kind, escaped(curve.name),
        points);
    for (const Spot& spot : curve.spots) {
      if (!dots || spot.x > most_x_) continue;
      add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\"><title>{}: {}</title></circle>\n",
          at_x(spot.x), at_y(spot.y), escaped(curve.name), escaped(spot.what));
    }
    svg_ += "</g>\n";
    if (index >= kNamed) return;
    const double y = kTop + 10 + 22.0 * static_cast<double>(index), x = kWidth - kRight + 14;
    add("<g class=\"{}\"><polyline points=\"{:.1f},{:.1f} {:.1f},{:.1f}\"/></g>\n", kind, x, y,
        x + 20, y);
    text(x + 26, y + 4, "start", curve.name);
  }

  std::string svg(const std::string& name) const {
    return fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
                       kWidth, kHeight, escaped(name), svg_);
  }

 private:
  double at_x(double x) const { return kLeft + x / most_x_ * (kWidth - kRight - kLeft); }
  double at_y(double y) const {
    const double share = std::clamp((y - least_y_) / (most_y_ - least_y_), -0.02, 1.02);
    return kHeight - kBottom - share * (kHeight - kBottom - kTop);
  }
  template <class... Values>
  void add(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(svg_), format, std::forward<Values>(values)...);
  }
  void line(const char* kind, double x1, double y1, double x2, double y2) {
    add("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", kind, x1,
        y1, x2, y2);
  }
  void text(double x, double y, const char* anchor, const std::string& what) {
    add("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y,
        anchor, escaped(what));
  }

  double most_x_, least_y_, most_y_;
  std::string svg_;
};

// The settings of a policy that move it along the frontier.
std::vector<std::pair<std::string, ReplayOptions>> settings_of(const PolicyInfo& info,
                                                               const ReplayOptions& base,
                                                               std::size_t exits) {
  std::vector<std::pair<std::string, ReplayOptions>> settings;
  const auto add = [&](const std::string& name, const auto& set) {
    ReplayOptions options = base;
    options.policy = info.name;
    set(options.policy_options);
    settings.emplace_back(name, std::move(options));
  };
  const auto reads = [&](std::string_view option) {
    return std::ranges::find(info.options, option) != info.options.end();
  };
  if (info.audits) {
    for (const double limit : kLimits) {
      add(fmt::format("E {:g} %", 100 * limit), [&](policy::PolicyOptions& options) {
        options.objective = policy::Objective::kDisagreement;
        options.max_disagreement = limit;
      });
    }
  } else if (reads("patience")) {
    for (std::size_t wanted = 1; wanted < exits; ++wanted) {
      add(fmt::format("{} in a row", wanted),
          [&](policy::PolicyOptions& options) { options.patience = wanted; });
    }
  } else if (info.looks == policy::Looks::kAtLast || info.looks == policy::Looks::kAtNone) {
    add("always", [](policy::PolicyOptions&) {});
  } else {
    for (const double alpha : kAlphas) {
      add(fmt::format("alpha {:g}", alpha), [&](policy::PolicyOptions& options) {
        options.alpha = alpha;
        options.exit_alphas.clear();
        options.entropy_threshold.reset();
      });
    }
  }
  return settings;
}

bool shown(const PolicyInfo& info, bool server) {
  if (info.looks == policy::Looks::kAtGivenSplit) return false;  // a simple rule
  return server || info.looks != policy::Looks::kAtNone;
}

// Well-known ones first: they have the colours.
std::vector<PolicyInfo> in_order() {
  std::vector<PolicyInfo> infos(policy::policy_list().begin(), policy::policy_list().end());
  const auto rank = [](const PolicyInfo& info) {
    if (info.name == policy::kDefaultPolicy) return 0;
    if (!info.sends) return 2;
    return info.looks == policy::Looks::kUpToSplit || info.stays_here || info.options.size() == 1
               ? 1
               : 3;
  };
  std::ranges::stable_sort(infos, {}, rank);
  return infos;
}

class Plotter {
 public:
  Plotter(const policy::Trace& trace, const ReplayOptions& options)
      : trace_(trace), options_(options) {}

  Status run() {
    for (const PolicyInfo& info : in_order()) {
      if (!shown(info, options_.server)) continue;
      if (Status status = add_frontier(info); !status.ok()) return status;
      if (Status status = add_regret(info); !status.ok()) return status;
    }
    return {};
  }

  std::string page(const std::string& title) const {
    Curve hull{.name = "simple rules in hindsight", .spots = {}};
    for (const policy::SimpleRule& rule : policy::lower_hull(
             policy::simple_rules(trace_, options_.policy_options, options_.server))) {
      hull.spots.push_back({100 * rule.disagreement, rule.cost,
                            policy::to_text(rule, options_.policy_options.layer_of)});
    }
    std::vector<Curve> frontier = {hull};
    frontier.insert(frontier.end(), frontier_.begin(), frontier_.end());
    const std::string costs = drawn(frontier, "disagreement with the last exit, %",
                                    "cost, lambda a sample", true, kMostDisagreement);
    const std::string regrets = drawn(regret_, "samples", "regret, in reward", false, 1e300);
    return fmt::format(fmt::runtime(kPage), escaped(title), costs, regrets, table(frontier));
  }

 private:
  static constexpr double kMostDisagreement = 20;  // percent
  static const char* const kPage;

  Status add_frontier(const PolicyInfo& info) {
    Curve curve{.name = std::string(info.name), .spots = {}};
    for (const auto& [name, setting] : settings_of(info, options_, trace_.exits)) {
      Result<ReplayResult> result = policy::replay(trace_, setting);
      if (!result.ok()) return result.status();
      curve.spots.push_back({100 * result->disagreement.mean, result->cost.mean, name});
    }
    std::ranges::sort(curve.spots, {}, &Spot::x);
    frontier_.push_back(std::move(curve));
    return {};
  }

  Status add_regret(const PolicyInfo& info) {
    ReplayOptions options = options_;
    options.policy = info.name;
    if (info.audits) options.policy_options.objective = policy::Objective::kReward;
    Result<ReplayResult> result = policy::replay(trace_, options);
    if (!result.ok()) return result.status();
    Curve curve{.name = std::string(info.name), .spots = {}};
    for (const policy::RegretPoint& point : result->regret) {
      curve.spots.push_back({static_cast<double>(point.t), point.regret.mean, ""});
    }
    regret_.push_back(std::move(curve));
    return {};
  }

  static std::string drawn(const std::vector<Curve>& curves, const std::string& x,
                           const std::string& y, bool dots, double most_x) {
    double right = 0, bottom = 0, top = 0;
    for (const Curve& curve : curves) {
      for (const Spot& spot : curve.spots) {
        if (spot.x > most_x) continue;
        right = std::max(right, spot.x);
        bottom = std::min(bottom, spot.y);
        top = std::max(top, spot.y);
      }
    }
    Chart chart(right, bottom, top);
    chart.axes(x, y);
    // The first ones on top.
    for (std::size_t i = curves.size(); i-- > 0;) chart.curve(curves[i], i, dots);
    return chart.svg(y + " against " + x);
  }

  static std::string table(const std::vector<Curve>& curves) {
    std::string rows;
    for (const Curve& curve : curves) {
      for (const Spot& spot : curve.spots) {
        fmt::format_to(std::back_inserter(rows),
                       "<tr><td>{}</td><td>{}</td><td>{:.3f}</td><td>{:.3f}</td></tr>\n",
                       escaped(curve.name), escaped(spot.what), spot.x, spot.y);
      }
    }
    return rows;
  }

  const policy::Trace& trace_;
  const ReplayOptions& options_;
  std::vector<Curve> frontier_, regret_;
};

const char* const Plotter::kPage = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{0}</title>
<style>
:root {{ color-scheme: light dark; --back: #fff; --ink: #222; --faint: #ddd; --grey: #aaa;
  --c0: #222; --c1: #c0392b; --c2: #2471a3; --c3: #1e8449; --c4: #b9770e; --c5: #7d3c98;
  --c6: #117a8b; --c7: #a04000; }}
@media (prefers-color-scheme: dark) {{ :root {{ --back: #16181c; --ink: #e6e6e6; --faint: #33363c;
  --grey: #666; --c0: #e6e6e6; --c1: #ff7b6b; --c2: #6cb8f0; --c3: #63d08a; --c4: #f0b455;
  --c5: #c99be6; --c6: #5cc7d6; --c7: #f0935c; }} }}
body {{ background: var(--back); color: var(--ink); font: 15px/1.4 system-ui, sans-serif;
  max-width: 820px; margin: 1.5rem auto; padding: 0 1rem; }}
svg {{ width: 100%; height: auto; }}
.label {{ fill: var(--ink); font-size: 12px; }}
.axis {{ stroke: var(--ink); }} .grid {{ stroke: var(--faint); stroke-width: .5; }}
polyline {{ fill: none; stroke-width: 2; stroke: currentColor; }} circle {{ fill: currentColor; }}
.c0 {{ color: var(--c0); }} .c1 {{ color: var(--c1); }} .c2 {{ color: var(--c2); }}
.c3 {{ color: var(--c3); }} .c4 {{ color: var(--c4); }} .c5 {{ color: var(--c5); }}
.c6 {{ color: var(--c6); }} .c7 {{ color: var(--c7); }} .other {{ color: var(--grey); }}
table {{ border-collapse: collapse; }} td, th {{ padding: .1rem .8rem .1rem 0; text-align: left; }}
</style></head><body>
<h1>{0}</h1>
<h2>Cost against disagreement</h2>
<p>Whole streams, learning and audits included; of an audited sample the answer that it would have
had counts. The hull of simple rules was chosen in hindsight, on the very samples at hand. Grey:
the other policies; hold the pointer over a curve or a dot for its name.</p>
{1}
<h2>Regret with the paper's reward</h2>
<p>Against one oracle for all: the best fixed split in hindsight, where a sample that is not sure
is sent, or without a server runs on. Below 0: better than it.</p>
{2}
<h2>Figures</h2>
<table><tr><th>policy</th><th>setting</th><th>disagreement, %</th><th>cost, lambda</th></tr>
{3}</table>
</body></html>
)";

}  // namespace

Result<std::string> plot_page(const policy::Trace& trace, const ReplayOptions& options,
                              const std::string& title) {
  ReplayOptions each = options;
  each.on_decision = nullptr;
  Plotter plotter(trace, each);
  if (Status status = plotter.run(); !status.ok()) return status;
  return plotter.page(title);
}

}  // namespace splitee::tools
