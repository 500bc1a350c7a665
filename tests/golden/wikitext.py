"""Size and CRC-32 of "\\n\\n".join(rows) of wikitext-2-raw-v1's test split, made from wiki.test.raw as the data set's script does
(datasets 2.x, wikitext.py: text mode, one row a line, '' for a blank one).

    python wikitext.py wiki.test.raw > ../data/wikitext_join.json
"""
import json
import platform
import sys
import zlib

with open(sys.argv[1], encoding="utf-8") as f:
    rows = [line if line.strip() else "" for line in f]
text = "\n\n".join(rows).encode()
print(json.dumps({"rows": len(rows), "bytes": len(text), "crc32": zlib.crc32(text), "made_by": "Python " + platform.python_version()}))
