// One correct call of each function, for tests that spoil one thing of it and expect to be refused.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "qkv/attention.h"

namespace qkv::tests {

struct Call {
  std::vector<float> numbers = std::vector<float>(4096, 0.5f);
  std::vector<float> written = std::vector<float>(4096, 777);  // out
  std::vector<float> lse = std::vector<float>(2 * 4 * 5, 777);
  bool bools[64] = {true};
  std::vector<float> few = std::vector<float>(3);
  std::vector<std::int32_t> lengths = {7, 7};
  Trace trace;

  TensorView query{numbers.data(), {2, 4, 5, 8}};
  TensorView key{numbers.data(), {2, 2, 7, 8}};
  TensorView value{numbers.data(), {2, 2, 7, 6}};
  AttentionOptions options;
  AttentionOutput output{{written.data(), {2, 4, 5, 6}}, lse, &trace};

  // of weights()
  std::uintptr_t lse_offset = 0;  // bytes that lse is moved by; of attention_backward() too
  Range queries = {1, 4};
  Range keys = {0, 7};
  MutableTensorView tile{written.data(), {2, 4, 3, 7}};

  // of merge()
  std::vector<AttentionPart> parts = {{TensorView(numbers.data(), Shape4{2, 4, 5, 6}), lse},
                                      {TensorView(numbers.data(), Shape4{2, 4, 5, 6}), lse}};
  MutableTensorView merged{written.data(), {2, 4, 5, 6}};
  std::vector<float> merged_lse = std::vector<float>(2 * 4 * 5, 777);
  std::size_t merged_lse_size = static_cast<std::size_t>(-1);  // all of it

  // of attention_backward()
  TensorView forward_out{numbers.data(), {2, 4, 5, 6}};
  TensorView d_out{numbers.data(), {2, 4, 5, 6}};
  std::span<const float> d_lse;
  std::vector<float> d_sinks = std::vector<float>(4, 777);
  AttentionGradients gradients{{written.data(), {2, 4, 5, 8}},
                               {written.data() + 1000, {2, 2, 7, 8}},
                               {written.data() + 2000, {2, 2, 7, 6}},
                               {},
                               {}};

  Call() { trace.top = 777; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  void run_attention() { attention(query, key, value, options, output); }
  void run_weights() {
    const auto at = reinterpret_cast<std::uintptr_t>(lse.data()) + lse_offset;
    weights(query, key, options, {reinterpret_cast<const float*>(at), lse.size()}, queries, keys,
            tile);
  }
  void run_merge() {
    const std::span<float> all(merged_lse);
    merge(parts, {merged, all.first(std::min(merged_lse_size, all.size())), nullptr});
  }
  void run_backward() {
    const auto at = reinterpret_cast<std::uintptr_t>(lse.data()) + lse_offset;
    attention_backward(query, key, value, options,
                       {forward_out, {reinterpret_cast<const float*>(at), lse.size()}}, d_out,
                       gradients, d_lse);
  }
  // A bias and sinks, and their gradients too.
  void add_bias_and_sinks() {
    options.bias = TensorView(numbers.data(), Shape4{1, 4, 5, 7});
    options.sinks = std::span(numbers).first(4);
    gradients.d_bias = MutableTensorView(written.data() + 3000, {1, 4, 5, 7});
    gradients.d_sinks = d_sinks;
  }

  bool untouched() const {
    for (const auto* values : {&written, &lse, &merged_lse, &d_sinks})
      for (const float x : *values)
        if (x != 777) return false;
    return trace.top == 777 && trace.lse.empty();
  }
};

inline void use_int8(Call& c) {
  c.key.dtype = c.value.dtype = DType::i8;
  c.options.k_scale = c.options.v_scale = TensorView(c.numbers.data(), Shape4{1, 2, 7, 1});
}

struct Wrong {
  std::string what;
  std::function<void(Call&)> spoil;
  std::vector<std::string> says;
};

inline void expect_refused(const char* function, void (Call::*run)(),
                           const std::vector<Wrong>& all) {
  for (const Wrong& wrong : all) {
    SCOPED_TRACE(std::string(function) + ": " + wrong.what);
    Call call;
    wrong.spoil(call);
    try {
      (call.*run)();
      ADD_FAILURE() << "was accepted";
    } catch (const std::invalid_argument& refused) {
      const std::string text = refused.what();
      EXPECT_EQ(text.rfind(std::string("qkv::") + function + ": ", 0), 0u) << text;
      for (const std::string& part : wrong.says)
        EXPECT_NE(text.find(part), std::string::npos) << "no \"" << part << "\" in: " << text;
    }
    EXPECT_TRUE(call.untouched());
  }
}

}  // namespace qkv::tests
