// Learning to remember: one attention layer learns associative recall by gradient descent, on the engine's own gradients.
//
//   make examples && build/release/examples/associative_recall [--steps N]
//
// A sequence is sixteen pairs, such as  k7 v3, k50 v21, k31 v3, …, and a question: k50? The answer is v21. Pairs are drawn
// anew for every sequence, so nothing can be learned by heart; what can be learned is to find the pair by its key and to bring
// its value. That is what the three projections are for: W_Q and W_K must come to agree on keys and ignore values, W_V must
// keep the value, and W_O must read it off.
//
// There is no framework below: each step's gradient (d_…, the derivative of the loss by …) stands beside the step. It ends
// with 1 if fewer than 95% of the answers are right.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace {

constexpr std::int64_t kKeys = 64, kValues = 64;  // what there is to know of each kind
constexpr std::int64_t kPairs = 16;               // in a sequence
constexpr std::int64_t kModel = 64;               // width of an embedding
constexpr std::int64_t kHead = 32;                // width of query, key and value
constexpr std::int64_t kBatch = 64;               // sequences in a step
constexpr float kLearningRate = 0.003F;

using Floats = std::vector<float>;

// The distributions of <random> differ from one standard library to the next, its engines do not.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(n));
  }
  double uniform() { return static_cast<double>((engine_() >> 11) + 1) * 0x1p-53; }  // in (0, 1]
  float normal() {  // Box and Muller 1958
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return static_cast<float>(radius * std::cos(6.283185307179586 * uniform()));
  }
  Floats normals(std::int64_t count, double deviation) {
    Floats x(static_cast<std::size_t>(count));
    for (float& value : x) value = static_cast<float>(deviation) * normal();
    return x;
  }

 private:
  std::mt19937_64 engine_;
};

// ---- the linear map, forward and backward

// y [rows, to] = x [rows, from] · w [from, to]
void linear(const Floats& x, const Floats& w, std::int64_t from, std::int64_t to, Floats& y) {
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / from;
  y.assign(static_cast<std::size_t>(rows * to), 0);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < from; ++i)
      for (std::int64_t o = 0; o < to; ++o) y[r * to + o] += x[r * from + i] * w[i * to + o];
}

// d_w [from, to] = xᵀ · d_y
void linear_backward_weight(const Floats& x, const Floats& d_y, std::int64_t from, std::int64_t to,
                            Floats& d_w) {
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / from;
  d_w.assign(static_cast<std::size_t>(from * to), 0);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < from; ++i)
      for (std::int64_t o = 0; o < to; ++o) d_w[i * to + o] += x[r * from + i] * d_y[r * to + o];
}

// d_x [rows, from] = d_y [rows, to] · wᵀ
void linear_backward_input(const Floats& d_y, const Floats& w, std::int64_t from, std::int64_t to,
                           Floats& d_x) {
  const std::int64_t rows = static_cast<std::int64_t>(d_y.size()) / to;
  d_x.assign(static_cast<std::size_t>(rows * from), 0);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < from; ++i)
      for (std::int64_t o = 0; o < to; ++o) d_x[r * from + i] += d_y[r * to + o] * w[i * to + o];
}

// ---- the loss, forward and backward

// Cross-entropy, the mean over rows of ln Σ_v e^logit[v] − logit[answer]; d_logits [rows, kValues] = (softmax − one-hot) / rows.
double cross_entropy(const Floats& logits, const std::vector<std::int64_t>& answers,
                     Floats& d_logits) {
  const auto rows = static_cast<double>(answers.size());
  double loss = 0;
  d_logits.resize(logits.size());
  for (std::size_t r = 0; r < answers.size(); ++r) {
    const float* row = &logits[r * kValues];
    const double largest = *std::max_element(row, row + kValues);
    double sum = 0;
    for (std::int64_t v = 0; v < kValues; ++v) sum += std::exp(row[v] - largest);
    for (std::int64_t v = 0; v < kValues; ++v)
      d_logits[r * kValues + v] =
          static_cast<float>((std::exp(row[v] - largest) / sum - (v == answers[r] ? 1 : 0)) / rows);
    loss += (std::log(sum) + largest - row[answers[r]]) / rows;
  }
  return loss;
}

// ---- what is learned from

struct Batch {
  std::vector<std::int64_t> keys, values;  // [kBatch, kPairs], keys of a sequence all different
  std::vector<std::int64_t> asked, place;  // [kBatch] the key of the question, the pair that has it
  std::vector<std::int64_t> answers;       // [kBatch] its value
  Floats pairs;                            // [kBatch, kPairs, kModel] embedding of key + of value
  Floats questions;                        // [kBatch, kModel] embedding of the key
};

struct Embeddings {
  Floats keys, values;  // [kKeys, kModel], [kValues, kModel]: random and fixed
  explicit Embeddings(Random& random)
      : keys(random.normals(kKeys * kModel, 1)), values(random.normals(kValues * kModel, 1)) {}
};

Batch draw(const Embeddings& embeddings, Random& random) {
  Batch batch;
  for (std::int64_t s = 0; s < kBatch; ++s) {
    std::vector<std::int64_t> deck(kKeys);
    for (std::int64_t k = 0; k < kKeys; ++k) deck[k] = k;
    for (std::int64_t p = 0; p < kPairs; ++p) {
      std::swap(deck[p], deck[p + random.below(kKeys - p)]);
      const std::int64_t key = deck[p], value = random.below(kValues);
      batch.keys.push_back(key);
      batch.values.push_back(value);
      for (std::int64_t d = 0; d < kModel; ++d)
        batch.pairs.push_back(embeddings.keys[key * kModel + d] +
                              embeddings.values[value * kModel + d]);
    }
    batch.place.push_back(random.below(kPairs));
    batch.asked.push_back(batch.keys[s * kPairs + batch.place[s]]);
    batch.answers.push_back(batch.values[s * kPairs + batch.place[s]]);
    const float* question = &embeddings.keys[batch.asked[s] * kModel];
    batch.questions.insert(batch.questions.end(), question, question + kModel);
  }
  return batch;
}

// ---- the layer

struct Parameter {
  Floats w, d_w;          // [from, to]
  Floats mean, variance;  // Adam's

  Parameter(std::int64_t from, std::int64_t to, Random& random)
      : w(random.normals(from * to, 1 / std::sqrt(static_cast<double>(from)))),
        mean(w.size()),
        variance(w.size()) {}

  // Kingma & Ba 2015, algorithm 1; step counts from 1.
  void adam(int step) {
    constexpr float kBeta1 = 0.9F, kBeta2 = 0.99F;
    const float seen_mean = 1 - std::pow(kBeta1, static_cast<float>(step));
    const float seen_variance = 1 - std::pow(kBeta2, static_cast<float>(step));
    for (std::size_t i = 0; i < w.size(); ++i) {
      mean[i] = kBeta1 * mean[i] + (1 - kBeta1) * d_w[i];
      variance[i] = kBeta2 * variance[i] + (1 - kBeta2) * d_w[i] * d_w[i];
      w[i] -=
          kLearningRate * (mean[i] / seen_mean) / (std::sqrt(variance[i] / seen_variance) + 1e-8F);
    }
  }
};

class Layer {
 public:
  explicit Layer(Random& random)
      : w_q_(kModel, kHead, random),
        w_k_(kModel, kHead, random),
        w_v_(kModel, kHead, random),
        w_o_(kHead, kValues, random) {}

  // logits = softmax(Q·Kᵀ / √kHead)·V·W_O with Q = questions·W_Q, K = pairs·W_K, V = pairs·W_V; returns the loss.
  double forward(const Batch& batch) {
    linear(batch.questions, w_q_.w, kModel, kHead, q_);
    linear(batch.pairs, w_k_.w, kModel, kHead, k_);
    linear(batch.pairs, w_v_.w, kModel, kHead, v_);
    out_.resize(q_.size());
    lse_.resize(kBatch);
    options_.trace.top = kPairs;  // so few that we can have them all
    qkv::attention({q_.data(), kOne}, {k_.data(), kMany}, {v_.data(), kMany}, options_,
                   {{out_.data(), kOne}, lse_, &trace_});
    linear(out_, w_o_.w, kHead, kValues, logits_);
    return cross_entropy(logits_, batch.answers, d_logits_);
  }

  // The same lines from the last to the first.
  void backward(const Batch& batch) {
    linear_backward_weight(out_, d_logits_, kHead, kValues, w_o_.d_w);
    linear_backward_input(d_logits_, w_o_.w, kHead, kValues, d_out_);
    d_q_.resize(q_.size());
    d_k_.resize(k_.size());
    d_v_.resize(v_.size());
    qkv::AttentionGradients gradients;
    gradients.d_query = {d_q_.data(), kOne};
    gradients.d_key = {d_k_.data(), kMany};
    gradients.d_value = {d_v_.data(), kMany};
    qkv::attention_backward({q_.data(), kOne}, {k_.data(), kMany}, {v_.data(), kMany}, options_,
                            {{out_.data(), kOne}, lse_}, {d_out_.data(), kOne}, gradients);
    linear_backward_weight(batch.questions, d_q_, kModel, kHead, w_q_.d_w);
    linear_backward_weight(batch.pairs, d_k_, kModel, kHead, w_k_.d_w);
    linear_backward_weight(batch.pairs, d_v_, kModel, kHead, w_v_.d_w);
  }

  void update(int step) {
    for (Parameter* parameter : {&w_q_, &w_k_, &w_v_, &w_o_}) parameter->adam(step);
  }

  // Of sequence s in the last forward pass: the value it answers, the pair it looked at most, the weight of each pair.
  std::int64_t answer(std::int64_t s) const {
    const float* row = &logits_[s * kValues];
    return std::max_element(row, row + kValues) - row;
  }
  std::int64_t looked_at(std::int64_t s) const { return trace_.top_keys[s * kPairs]; }
  Floats weights(std::int64_t s) const {
    Floats weight(kPairs);
    for (std::int64_t i = s * kPairs; i < (s + 1) * kPairs; ++i)
      weight[trace_.top_keys[i]] = trace_.top_weights[i];
    return weight;
  }

 private:
  static constexpr qkv::Shape4 kOne = {kBatch, 1, 1, kHead}, kMany = {kBatch, 1, kPairs, kHead};
  Parameter w_q_, w_k_, w_v_, w_o_;
  Floats q_, k_, v_, out_, lse_, logits_;
  Floats d_q_, d_k_, d_v_, d_out_, d_logits_;
  qkv::AttentionOptions options_;
  qkv::Trace trace_;
};

// ---- what is shown

// Loss, answers and attention over sequences that were not trained on; returns the part of answers that is right.
double examine(const char* when, Layer& layer, const std::vector<Batch>& exam) {
  double loss = 0, right = 0, found = 0, weight = 0;
  for (const Batch& batch : exam) {
    loss += layer.forward(batch);
    for (std::int64_t s = 0; s < kBatch; ++s) {
      right += layer.answer(s) == batch.answers[s] ? 1 : 0;
      found += layer.looked_at(s) == batch.place[s] ? 1 : 0;
      weight += double{layer.weights(s)[batch.place[s]]};
    }
  }
  const auto batches = static_cast<double>(exam.size()), sequences = batches * kBatch;
  std::printf("%s: loss %.3f, recall %.1f%%, looked at the right pair in %.1f%%, its weight %.3f\n",
              when, loss / batches, 100 * right / sequences, 100 * found / sequences,
              weight / sequences);

  const Batch& batch = exam.front();
  layer.forward(batch);
  for (std::int64_t s = 0; s < 3; ++s) {
    const char* const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    std::string picture;
    for (const float w : layer.weights(s)) picture += bars[std::min(7, static_cast<int>(w * 8))];
    std::printf(
        "  k%-2lld is in pair %2lld; weights %s, most on %2lld; answer v%-2lld, right is v%lld\n",
        static_cast<long long>(batch.asked[s]), static_cast<long long>(batch.place[s]),
        picture.c_str(), static_cast<long long>(layer.looked_at(s)),
        static_cast<long long>(layer.answer(s)), static_cast<long long>(batch.answers[s]));
  }
  return right / sequences;
}

int learn(int steps) {
  Random random(1);
  const Embeddings embeddings(random);
  Layer layer(random);
  std::vector<Batch> exam;
  for (int i = 0; i < 16; ++i) exam.push_back(draw(embeddings, random));

  // who knows that the answer is one of the sequence's values is right once in 16, and where two pairs have the same one
  constexpr double kOneOfThem = 1.0 / kPairs + (1 - 1.0 / kPairs) / kValues;
  std::printf("by chance: recall %.1f%%, with the values of the sequence alone %.1f%%\n",
              100.0 / kValues, 100 * kOneOfThem);
  examine("before", layer, exam);
  const auto start = std::chrono::steady_clock::now();
  double loss = 0;
  for (int step = 1; step <= steps; ++step) {
    const Batch batch = draw(embeddings, random);
    loss += layer.forward(batch);
    layer.backward(batch);
    layer.update(step);
    if (step % 100 == 0) {
      std::printf("steps to %4d: loss %.3f\n", step, loss / 100);
      loss = 0;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const double recall = examine("after", layer, exam);
  std::printf("learned for %.1f s\n", took.count());
  return recall >= 0.95 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  int steps = 1000;
  if (argc != 1) {
    const char* const last = argv[argc - 1];
    const char* const end = last + std::strlen(last);
    const auto [stopped, error] = std::from_chars(last, end, steps);
    if (argc != 3 || std::strcmp(argv[1], "--steps") != 0 || error != std::errc() ||
        stopped != end || steps < 0) {
      std::fprintf(stderr,
                   "usage: associative_recall [--steps N]\n"
                   "       N gradient steps, a whole number from 0, instead of 1000\n");
      return 2;
    }
  }
  try {
    return learn(steps);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "associative_recall: %s\n", error.what());
    return 1;
  }
}
