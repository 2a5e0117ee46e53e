/** Say whose list a session's tokens reach: that of the organization that it is active in, or the user's own. */
export async function listOf(auth, { user, session }) {
  const { activeOrganizationId } = session;
  if (!activeOrganizationId) return user.id;
  const { adapter } = await auth.$context;
  const member = await adapter.findOne({
    model: "member", // asked each time: a session stays active in an organization that its user has left
    where: [
      { field: "userId", value: user.id },
      { field: "organizationId", value: activeOrganizationId },
    ],
  });
  return member ? activeOrganizationId : user.id;
}
