import { useEffect, useRef } from "preact/hooks";
import type { Store, Toast } from "../model/store";

const SHOWN = 12_000;
/** Milliseconds that a passing message is shown, unless the pointer or the focus is on it. What it offers is also under
 * History. */

export function Toasts({ store }: { store: Store }) {
  return (
    <div class="toasts" role="status">
      {store.toasts.value.map((toast) => (
        <Message key={toast.id} toast={toast} dismiss={() => store.dismiss(toast.id)} />
      ))}
    </div>
  );
}

function Message({ toast, dismiss }: { toast: Toast; dismiss: () => void }) {
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (toast.stays) return;
    const timer = setInterval(() => {
      if (!element.current!.matches(":hover, :focus-within")) dismiss();
    }, SHOWN);
    return () => clearInterval(timer);
  }, []);
  const act = () => {
    dismiss();
    toast.action!.run();
  };
  return (
    <div class="toast" ref={element}>
      <span dir="auto">{toast.text}</span>
      {toast.action && (
        <button type="button" onClick={act}>
          {toast.action.name}
        </button>
      )}
      <button type="button" class="close" aria-label="Dismiss" onClick={dismiss}>
        ×
      </button>
    </div>
  );
}
