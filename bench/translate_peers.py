"""200 sentences through qkv, transformers (eager) and CTranslate2 (fp32): the same checkpoint, machine, threads and minute.

    python bench/translate_peers.py MODEL_FOLDER SENTENCES.txt --program build/release/bench/translate_lines

Every engine translates the same sentences one by one and in batches, greedily and with 4 beams. qkv also notes down the alignment;
the others do not. Best of --repeats runs each; CTranslate2 in the faster of its two ways to use the threads.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path


def best_of(repeats, run):
    run_times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        run_times.append(time.perf_counter() - start)
    return min(run_times), result


def is_chinese(text):
    return any("\u3400" <= c <= "\u9fff" for c in text)


def source_of(text):
    """With the language token in front, as qkv chooses it."""
    return (">>en<<" if is_chinese(text) else ">>zh<<") + text


def qkv(args, texts, beams, batch):
    command = [args.program, args.model, "--beams", str(beams), "--threads", str(args.threads), "--repeats", str(args.repeats),
               "--alignment", *(["--one-by-one"] if batch == 1 else ["--batch", str(batch)])]
    done = subprocess.run(command, input="\n".join(texts) + "\n", capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    return report["seconds"], report["texts"]


class Transformers:
    def __init__(self, args):
        import torch
        from transformers import MarianMTModel, MarianTokenizer, logging

        logging.set_verbosity_error()
        torch.set_num_threads(args.threads)
        self.torch, self.args = torch, args
        self.tokenizer = MarianTokenizer.from_pretrained(args.model)
        self.model = MarianMTModel.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager").eval()

    def run(self, texts, beams, batch):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        results = [""] * len(texts)
        with self.torch.inference_mode():
            for first in range(0, len(order), batch):
                part = order[first : first + batch]
                inputs = self.tokenizer([source_of(texts[i]) for i in part], return_tensors="pt", padding=True)
                out = self.model.generate(**inputs, num_beams=beams)
                for i, text in zip(part, self.tokenizer.batch_decode(out, skip_special_tokens=True)):
                    results[i] = text
        return results

    def __call__(self, texts, beams, batch):
        self.run(texts[:2], beams, batch)
        return best_of(self.args.repeats, lambda: self.run(texts, beams, batch))


class CTranslate2:
    def __init__(self, args, folder):
        import ctranslate2
        from transformers import GenerationConfig, MarianTokenizer

        ctranslate2.converters.TransformersConverter(args.model).convert(folder, force=True)
        self.args = args
        self.tokenizer = MarianTokenizer.from_pretrained(args.model)
        self.longest = GenerationConfig.from_pretrained(args.model).max_length
        self.ways = {
            "one after the other": ctranslate2.Translator(folder, compute_type="float32", inter_threads=1, intra_threads=args.threads),
            "side by side": ctranslate2.Translator(folder, compute_type="float32", inter_threads=args.threads, intra_threads=1),
        }

    def run(self, translator, texts, beams, batch):
        tokens = [self.tokenizer.convert_ids_to_tokens(self.tokenizer.encode(source_of(text))) for text in texts]
        options = {"beam_size": beams, "max_decoding_length": self.longest - 1, "max_batch_size": batch}
        if batch == 1:
            out = [translator.translate_batch([one], **options)[0] for one in tokens]
        else:
            out = translator.translate_batch(tokens, **options)
        return [self.tokenizer.decode(self.tokenizer.convert_tokens_to_ids(one.hypotheses[0]), skip_special_tokens=True) for one in out]

    def __call__(self, texts, beams, batch):
        best = None
        for translator in self.ways.values():
            self.run(translator, texts[:2], beams, batch)
            found = best_of(self.args.repeats, lambda: self.run(translator, texts, beams, batch))
            best = found if best is None or found[0] < best[0] else best
        return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("sentences")
    parser.add_argument("--program", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--only-batches", action="store_true")
    parser.add_argument("--without", choices=["transformers", "ctranslate2"], action="append", default=[])
    args = parser.parse_args()
    texts = Path(args.sentences).read_text(encoding="utf-8").splitlines()[: args.count]
    with tempfile.TemporaryDirectory() as folder:
        engines = {"qkv": lambda *a: qkv(args, *a)}
        if "transformers" not in args.without:
            engines["transformers"] = Transformers(args)
        if "ctranslate2" not in args.without:
            engines["ctranslate2"] = CTranslate2(args, folder)
        print(f"{len(texts)} sentences, {args.threads} threads; seconds, and qkv's speed-up; same text as qkv's")
        for beams in args.beams:
            for batch in (args.batch,) if args.only_batches else (1, args.batch):
                line = f"beams {beams}, {'one by one' if batch == 1 else f'batches of {batch}':14}"
                ours = None
                for name, engine in engines.items():
                    seconds, found = engine(texts, beams, batch)
                    if ours is None:
                        ours = (seconds, found)
                        line += f"  qkv {seconds:.2f} s"
                    else:
                        same = sum(a == b for a, b in zip(found, ours[1]))
                        line += f"  {name} {seconds:.2f} s ({seconds / ours[0]:.2f}x, {same} same)"
                print(line, flush=True)


if __name__ == "__main__":
    main()
