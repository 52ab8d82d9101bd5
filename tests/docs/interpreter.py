"""A Python that runs a document's blocks one after the other, as a reader would in one session.

Reads a line of JSON for each block from its standard input and answers with one.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import sys
import traceback


def run(code: str, name: str, names: dict[str, object]) -> tuple[bool, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        if ">>> " in code:
            test = doctest.DocTestParser().get_doctest(code, {}, name, name, 0)
            test.globs = names
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
            runner.run(test, out=output.write, clear_globs=False)
            return not runner.failures, output.getvalue()
        try:
            exec(compile(code, name, "exec"), names)
        except BaseException:
            return False, output.getvalue() + traceback.format_exc()
        return True, output.getvalue()


if __name__ == "__main__":
    sys.path.insert(0, "")
    names: dict[str, object] = {"__name__": "__main__"}
    answers = sys.stdout
    for line in sys.stdin:
        code, name = json.loads(line)
        answers.write(json.dumps(run(code, name, names)) + "\n")
        answers.flush()
