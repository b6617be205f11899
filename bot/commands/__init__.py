"""One file = one /vllm subcommand; the word after `/vllm` is the file's name. What only reads runs in a terminal too.

A command module has

    USAGE: str             "status [service]"
    SUMMARY: str           one line for `/vllm help`
    READS_ONLY: bool       may it run in a terminal, where nobody knows who asks?
    def run(words: Sequence[str], context: Context) -> Report     raises UsageError, SourceError

words      from what was typed to parameters
context    what a command may use
request    what people asked for, as a row: any replica writes it, the leader acts on it
dispatch   rows -> commands, clicks and submitted dialogs; each answered to the person who asked
"""
