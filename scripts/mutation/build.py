"""The kernels' test programs of a build folder with all mutants in them, and what each test case runs."""
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time

from mutation.mutants import applied

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
KERNELS = "src/kernels/cuda"
SWITCH = SOURCE / "scripts" / "mutation"
PROGRAMS = ["cuda_attention_test", "cuda_ops_test", "cuda_linear_test"]
CCACHE = [program for program in [shutil.which("ccache")] if program]
PATIENCE = 30  # times what the cases take without a mutant, and 5 s


class Case:
    """A test case: how long it takes, and the mutants whose places it runs."""

    def __init__(self, program, line):
        self.program = program
        self.name, ms, *ids = line.split()
        self.ms = max(1, int(ms))
        self.reached = {int(id) for id in ids}


class Build:
    def __init__(self, build, mutants, sources, jobs):
        self.build, self.mutants, self.sources, self.jobs = build, mutants, sources, jobs
        self.folder = build / "mutants"
        self.compile, self.link, self.cases = {}, {}, []
        for entry in json.loads((build / "compile_commands.json").read_text()):
            words = [w for w in shlex.split(entry["command"]) if w not in ("-Werror", "--coverage")]
            target = words[words.index("-o") + 1]
            if re.search(r"trireme_cuda_emulated\.dir.*\.cu\.o$|cuda_attention_test\.dir/mma_test", target):
                self.compile[target] = words
        for program in PROGRAMS:
            commands = subprocess.run(["ninja", "-C", build, "-t", "commands", program],
                                      capture_output=True, text=True, check=True).stdout
            link = commands.strip().splitlines()[-1].split(" && ")[1]
            self.link[program] = link.replace("trireme_cuda_counted.dir", "trireme_cuda_emulated.dir")

    # ---- building ----

    def source(self, target):
        words = self.compile[target]
        return pathlib.Path(words[words.index("-c") + 1])

    def made(self, target, folder):
        """A target's object, of the kernels that lie in `folder`. None: it does not compile."""
        words = list(self.compile[target])
        out = folder / pathlib.Path(target).name
        words[words.index("-o") + 1] = str(out)
        own = folder / KERNELS / self.source(target).name
        if own.exists():
            words[words.index("-c") + 1] = str(own)
        at = next(i for i, word in enumerate(words) if word.startswith("-I"))
        words[at:at] = ["-include", str(SWITCH / "switch.h"), f"-I{folder}/src"]
        done = subprocess.run([*CCACHE, *words, "-g0", "-w"], cwd=self.build, capture_output=True, text=True)
        return (out, "") if done.returncode == 0 else (None, done.stderr)

    def linked(self, objects, folder):
        for program, link in self.link.items():
            for target, out in objects.items():
                link = link.replace(target, str(out))
            link = re.sub(r"-o \S+", f"{self.folder}/switch.o -o {folder}/{program}", link, count=1)
            subprocess.run(link, cwd=self.build, shell=True, check=True)

    def make(self, cases):
        """Links the programs that have every mutant, and asks which cases run which unless it is known."""
        folder = self.folder
        (folder / KERNELS).mkdir(parents=True, exist_ok=True)
        for file, text in self.sources.items():
            edits = [(begin, end, new.replace("{id}", str(mutant.id))) for mutant in self.mutants
                     if mutant.file == file for begin, end, new in mutant.switch]
            write(folder / KERNELS / file, applied(text, edits))
        flags = [w for w in self.compile[next(iter(self.compile))] if w.startswith("-fsanitize")]
        subprocess.run(["c++", "-std=c++20", "-O2", *flags, f"-DMUTANTS={max(m.id for m in self.mutants)}", "-c",
                        SWITCH / "switch.cc", "-o", folder / "switch.o"], check=True)
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            made = dict(zip(self.compile, pool.map(lambda target: self.made(target, folder), self.compile)))
        for target, (out, errors) in made.items():
            if out is None:
                sys.exit(f"mutate-kernels: {target} does not compile with its mutants:\n{errors}")
        self.objects = {target: out for target, (out, _) in made.items()}
        self.linked(self.objects, folder)
        self.cases = cases
        if cases:
            for program in PROGRAMS:
                quick = [case for case in cases if case.program == program and case.ms < 200]
                if self.tried(0, folder, quick) != "survived":
                    sys.exit(f"mutate-kernels: {program} of {self.build} fails without a mutant")
            return
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            self.cases = [case for cases in pool.map(self.recorded, PROGRAMS) for case in cases]

    def recorded(self, program):
        record = self.folder / f"{program}.reached"
        done = subprocess.run([self.folder / program, "--gtest_brief=1"], cwd=self.folder, capture_output=True,
                              text=True, env=self.environment(TRIREME_MUTANTS_REACHED=str(record)))
        if done.returncode != 0:
            sys.exit(f"mutate-kernels: {program} of {self.build} fails without a mutant:\n{done.stdout[-3000:]}")
        return [Case(program, line) for line in record.read_text().splitlines()]

    # ---- running ----

    def environment(self, **more):
        return {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "GCOV_PREFIX": str(self.folder / "gcov"), **more}

    def verdict(self, mutant, rounds):
        """"killed", "late" (killed, as it did not end), "survived", or "no C++". The cheapest cases that run its
        place come first, for so many ms a round."""
        folder = self.folder
        if not mutant.switch:
            folder = self.compiled(mutant)
            if folder is None:
                return "no C++"
        near = {m.id for m in self.mutants if m.file == mutant.file} if not mutant.switch else {mutant.id}
        cases = sorted((case for case in self.cases if case.reached & near), key=lambda case: case.ms)
        try:
            for most in rounds:
                taken, ms = 0, 0
                while taken < len(cases) and (ms + cases[taken].ms <= most or taken == 0):
                    ms += cases[taken].ms
                    taken += 1
                for program in PROGRAMS:
                    found = self.tried(mutant.id, folder, [c for c in cases[:taken] if c.program == program])
                    if found != "survived":
                        return found
                cases = cases[taken:]
            return "survived"
        finally:
            if folder != self.folder:
                shutil.rmtree(folder)

    def tried(self, id, folder, cases):
        if not cases:
            return "survived"
        limit = 5 + PATIENCE * sum(case.ms for case in cases) / 1000
        process = subprocess.Popen(
            [folder / cases[0].program, "--gtest_brief=1", "--gtest_fail_fast"], cwd=folder,
            env=self.environment(TRIREME_MUTANT=str(id), GTEST_FILTER=":".join(case.name for case in cases)),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
        try:
            return "survived" if process.wait(limit) == 0 else "killed"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return "late"

    def compiled(self, mutant):
        """A folder with the programs of a mutant that only the compiler can choose, or None."""
        folder = self.folder / f"mutant{mutant.id}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / "src", folder / "src")
        write(folder / KERNELS / mutant.file, applied(self.sources[mutant.file], mutant.edits))
        objects = dict(self.objects)
        for target in self.compile:
            if mutant.file.endswith(".cuh") or self.source(target).name == mutant.file:
                objects[target], _ = self.made(target, folder)
                if objects[target] is None:
                    return None
        self.linked(objects, folder)
        return folder


def write(path, text):
    """Only where it is another, so that what is made of it stays."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
