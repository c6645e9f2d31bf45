#include "tests/kernels/matmul_support.h"

namespace splitee::kernels::testing {
namespace {

struct Shape {
  std::size_t q_rows;
  std::size_t kv_rows;
  std::size_t heads;
  std::size_t head_size;
};

// softmax(q k^T / sqrt(head_size)) v of one head and row, in double.
std::vector<double> expected_row(const Matrix& q, const Matrix& k, const Matrix& v, std::size_t row,
                                 std::size_t head, std::size_t head_size) {
  std::vector<double> scores(k.rows());
  double largest = -std::numeric_limits<double>::infinity();
  for (std::size_t j = 0; j < k.rows(); ++j) {
    for (std::size_t d = head * head_size; d < (head + 1) * head_size; ++d) {
      scores[j] += static_cast<double>(q.at(row, d)) * static_cast<double>(k.at(j, d));
    }
    scores[j] /= std::sqrt(static_cast<double>(head_size));
    largest = std::max(largest, scores[j]);
  }
  double sum = 0.0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  std::vector<double> result(head_size);
  for (std::size_t j = 0; j < k.rows(); ++j) {
    for (std::size_t d = 0; d < head_size; ++d) {
      result[d] += scores[j] / sum * static_cast<double>(v.at(j, head * head_size + d));
    }
  }
  return result;
}

struct Inputs {
  Matrix q;
  Matrix k;
  Matrix v;
};

Inputs make_inputs(const Shape& shape, Random& random, float size) {
  const std::size_t cols = shape.heads * shape.head_size;
  const auto make = [&](std::size_t rows) {
    return Matrix(rows, cols, cols + random.below(5), random.below(kMaxLanes))
        .fill(random, -size, size);
  };
  Matrix q = make(shape.q_rows);
  Matrix k = make(shape.kv_rows);
  return {std::move(q), std::move(k), make(shape.kv_rows)};
}

// The two attentions of a target. The second one rounds, unless it is the first one.
struct Attention {
  const Kernels& kernels;
  decltype(Kernels::attention) function;
  bool rounds;
};

template <class Test>
void for_each_attention(const Test& test) {
  for_each_target([&](const Kernels& kernels) {
    test(Attention{kernels, kernels.attention, false});
    const bool rounds = kernels.attention_bf16 != kernels.attention;
    CAPTURE(rounds);
    if (rounds) test(Attention{kernels, kernels.attention_bf16, true});
  });
}

Matrix rounded(Matrix m) {
  for (std::size_t r = 0; r < m.rows(); ++r) {
    for (std::size_t c = 0; c < m.cols(); ++c) m.at(r, c) = widen(nearest_bfloat16(m.at(r, c)));
  }
  return m;
}

void run(const Attention& attention, const Inputs& in, const Shape& shape, std::size_t begin,
         std::size_t end, Matrix& out) {
  const Kernels& kernels = attention.kernels;
  const std::size_t size = kernels.attention_scratch(shape.q_rows, shape.kv_rows, shape.head_size);
  Matrix scratch(1, size, size, 3);
  for (std::size_t i = 0; i < size; ++i) scratch.at(0, i) = kNan;
  attention.function({in.q.data(), in.q.stride(), in.k.data(), in.k.stride(), in.v.data(),
                      in.v.stride(), out.data(), out.stride(), shape.q_rows, shape.kv_rows,
                      shape.head_size, begin, end, scratch.data()});
  CHECK(scratch.guards_intact());
  CHECK(out.guards_intact());
}

// Scores are sums of head_size products of up to size^2, so an exponent is off by as much.
// Rounding the exponentials to bfloat16 changes each by 2^-9 at most.
double tolerance(const Attention& attention, const Shape& shape, float size) {
  const double depth = static_cast<double>(shape.head_size + shape.kv_rows);
  const double floats =
      (100.0 + depth) * kEpsilon * static_cast<double>(size * (1.0f + size * size));
  return floats + (attention.rounds ? static_cast<double>(size) / 256.0 : 0.0);
}

void check_outputs(const Attention& attention, const Inputs& given, const Shape& shape,
                   const Matrix& out, double allowed) {
  const Inputs in =
      attention.rounds ? Inputs{rounded(given.q), rounded(given.k), rounded(given.v)} : given;
  std::size_t wrong = 0;
  for (std::size_t row = 0; row < shape.q_rows; ++row) {
    for (std::size_t head = 0; head < shape.heads; ++head) {
      const auto expected = expected_row(in.q, in.k, in.v, row, head, shape.head_size);
      for (std::size_t d = 0; d < shape.head_size; ++d) {
        const float actual = out.at(row, head * shape.head_size + d);
        if (!close(static_cast<double>(actual), expected[d], allowed)) ++wrong;
      }
    }
  }
  CHECK(wrong == 0);
}

void check_shape(const Attention& attention, const Shape& shape, std::uint32_t seed,
                 float size = 1.0f) {
  CAPTURE(shape.q_rows);
  CAPTURE(shape.kv_rows);
  CAPTURE(shape.heads);
  CAPTURE(shape.head_size);
  CAPTURE(seed);
  Random random(seed);
  const Inputs in = make_inputs(shape, random, size);
  const std::size_t cols = shape.heads * shape.head_size;
  Matrix out(shape.q_rows, cols, cols + random.below(5), random.below(kMaxLanes));
  run(attention, in, shape, 0, shape.heads, out);
  check_outputs(attention, in, shape, out, tolerance(attention, shape, size));
}

TEST_CASE("attention: every head size around the vectors") {
  for_each_attention([](const Attention& attention) {
    for (std::size_t size = 1; size <= 2 * kMaxLanes + 3; ++size) {
      check_shape(attention, {5, 9, 2, size}, static_cast<std::uint32_t>(size));
    }
    for (const std::size_t size : {48u, 64u, 65u, 96u, 128u}) {
      check_shape(attention, {17, 20, 2, size}, static_cast<std::uint32_t>(size));
    }
  });
}

TEST_CASE("attention: every number of rows around the tiles, one query too") {
  for_each_attention([](const Attention& attention) {
    for (std::size_t rows = 1; rows <= 2 * kMaxLanes + 3; ++rows) {
      const auto seed = static_cast<std::uint32_t>(rows);
      check_shape(attention, {rows, rows, 1, 32}, seed);
      check_shape(attention, {1, rows, 2, 32}, seed);
      check_shape(attention, {rows, 1, 2, 12}, seed);
    }
  });
}

TEST_CASE("attention: real shapes") {
  for_each_attention([](const Attention& attention) {
    check_shape(attention, {128, 128, 2, 64}, 1);
    check_shape(attention, {128, 128, 2, 32}, 2);
    check_shape(attention, {1, 512, 2, 64}, 3);
    check_shape(attention, {33, 512, 1, 64}, 4);
  });
}

TEST_CASE("attention: far apart scores") {
  for_each_attention([](const Attention& attention) {
    check_shape(attention, {9, 40, 2, 32}, 5, 8.0f);
  });
}

TEST_CASE("attention: a range of heads writes its own columns only, with the same bits") {
  for_each_attention([](const Attention& attention) {
    Random random(6);
    const Shape shape = {15, 22, 4, 20};
    const Inputs in = make_inputs(shape, random, 1.0f);
    Matrix whole(15, 80, 80);
    run(attention, in, shape, 0, 4, whole);
    Matrix parts(15, 80, 80);
    run(attention, in, shape, 1, 3, parts);
    for (std::size_t c = 0; c < 80; ++c) {
      CHECK((parts.at(7, c) != 0.0f) == (c >= 20 && c < 60));
    }
    run(attention, in, shape, 3, 4, parts);
    run(attention, in, shape, 0, 1, parts);
    CHECK(parts.same_bits(whole));
  });
}

TEST_CASE("attention: NaN reaches the row of q, and the head of k or v, that it is in") {
  for_each_attention([](const Attention& attention) {
    Random random(7);
    const Shape shape = {16, 21, 3, 20};
    Inputs in = make_inputs(shape, random, 1.0f);
    in.q.at(3, 5) = kNan;
    in.k.at(11, 25) = kNan;
    in.v.at(20, 59) = kNan;
    Matrix out(16, 60, 60);
    run(attention, in, shape, 0, 3, out);
    check_outputs(attention, in, shape, out, tolerance(attention, shape, 1.0f));
  });
}

TEST_CASE("attention: a row's result does not depend on the rows of q beside it") {
  for_each_attention([](const Attention& attention) {
    for (const std::size_t kv_rows : {7u, 16u, 45u, 128u}) {
      Random random(static_cast<std::uint32_t>(kv_rows));
      const Shape shape = {19, kv_rows, 2, 32};
      Inputs in = make_inputs(shape, random, 1.0f);
      Matrix all(19, 64, 64);
      run(attention, in, shape, 0, 2, all);
      for (std::size_t r = 0; r < 19; ++r) {
        Matrix q(1, 64, 64);
        std::copy_n(in.q.data() + r * in.q.stride(), 64, q.data());
        Matrix alone(1, 64, 64);
        run(attention, {q, in.k, in.v}, {1, kv_rows, 2, 32}, 0, 2, alone);
        CHECK(std::memcmp(alone.data(), all.data() + r * 64, 64 * sizeof(float)) == 0);
      }
    }
  });
}

}  // namespace
}  // namespace splitee::kernels::testing
