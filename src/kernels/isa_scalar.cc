#include "kernels/scalar.h"

namespace qkv::kernels {
extern const Kernels scalar_kernels;
const Kernels scalar_kernels = {.name = "scalar",
                                .panel = scalar::kPanel,
                                .step = scalar::kPanel,
                                .narrow = nullptr,
                                .pairs = nullptr,
                                .pack_queries = scalar::pack_queries,
                                .query_dot_keys = scalar::query_dot_keys,
                                .scale_rows = scalar::scale_rows,
                                .softcap = scalar::softcap,
                                .add_alibi = scalar::add_alibi,
                                .mask_outside = scalar::mask_outside,
                                .softmax = scalar::softmax,
                                .softmax_traced = scalar::softmax_traced,
                                .weighted_sum_values = scalar::weighted_sum_values,
                                .weighted_sum_visible_values = scalar::weighted_sum_visible_values,
                                .all_finite = scalar::all_finite,
                                .merge_states = scalar::merge_states,
                                .write_outputs = scalar::write_outputs,
                                .write_outputs_half = scalar::write_outputs_half,
                                .write_outputs_bfloat16 = scalar::write_outputs_bfloat16,
                                .normalise = scalar::normalise,
                                .weigh_keys = scalar::weigh_keys,
                                .best_keys = scalar::best_keys,
                                .softmax_gradients = scalar::softmax_gradients,
                                .softcap_gradients = scalar::softcap_gradients,
                                .weighted_sum_queries = scalar::weighted_sum_queries,
                                .linear = scalar::linear<float>,
                                .linear_half = scalar::linear<std::uint16_t>};
}  // namespace qkv::kernels
