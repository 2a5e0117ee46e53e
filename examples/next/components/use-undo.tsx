import { newKey } from "daybook-client";
import { useState } from "react";
import { explain } from "@/lib/explain";
import { useTasks } from "./tasks-provider";

/** Make a button that takes back the last change that was offered to it, while it is offered. */
export function useUndo() {
  const { daybook, setNotice } = useTasks();
  const [seq, setSeq] = useState<number | null>(null);

  async function undo(seq: number) {
    setSeq(null);
    try {
      await daybook.undo({ seq }, { key: newKey() }); // the list follows by the stream
    } catch (error) {
      setNotice(explain(error));
    }
  }

  const undoButton = seq !== null && (
    <button type="button" onClick={() => undo(seq)}>
      Undo
    </button>
  );
  return { undo, undoButton, offerUndo: (written: { seq: number | null }) => setSeq(written.seq) };
}
